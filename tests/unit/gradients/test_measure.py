"""The choice of an engine, with a clock that tells what the test wants."""

from __future__ import annotations

import random

import pytest

from trak_cli.errors import InputError, MachineError, Problem
from trak_cli.gradients.tuning.clock import undisturbed
from trak_cli.gradients.tuning.measure import Candidate, Trial, choose, measure, samples_of_race


class Machine:
    """A clock that the work itself moves on; other processes lengthen the elapsed time of a run by ``wait``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited = 0.0
        self.runs: list[tuple[str, int]] = []

    def clock(self) -> tuple[float, float]:
        return self.now + self.waited, self.now

    def candidate(self, engine: str, limit: int, fixed: float, each: float, first: float = 0.0) -> Candidate:
        """Work that takes ``fixed`` seconds, ``each`` for each sample, and ``first`` more the first time."""

        def work(size: int) -> None:
            warm = any(name == engine for name, _ in self.runs)
            self.runs.append((engine, size))
            self.now += fixed + each * size + (0.0 if warm else first)

        return Candidate(engine, limit, work)


def test_the_fastest_for_each_sample_wins_whatever_its_first_run_took() -> None:
    machine = Machine()
    trials = measure(
        [machine.candidate("a", 256, 0.0, 0.002), machine.candidate("b", 256, 0.1, 0.001, first=0.8)], clock=machine.clock
    )
    assert trials[0] == Trial("b", 128, trials[0].seconds)
    assert abs(trials[0].seconds - (0.1 / 128 + 0.001)) < 1e-9
    assert [one.seconds for one in trials] == sorted(one.seconds for one in trials)


def test_hopeless_candidates_are_not_timed() -> None:
    machine = Machine()
    measure([machine.candidate("fast", 256, 0, 0.001), machine.candidate("slow", 256, 0, 0.5)], clock=machine.clock)
    assert [run for run in machine.runs if run[0] == "slow"] == [("slow", 8)]


def test_a_microbatch_stays_within_its_memory() -> None:
    machine = Machine()
    assert {one.microbatch for one in measure([machine.candidate("a", 40, 0, 0.001)], clock=machine.clock)} == {8, 32}
    assert {one.microbatch for one in measure([machine.candidate("a", 3, 0, 0.001)], clock=machine.clock)} == {3}
    assert {one.microbatch for one in measure([machine.candidate("a", 5, 0, 1)], sizes=(5,), clock=machine.clock)} == {5}


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("samples", [0, 90, 100, 280, 300, 1100, 1200, 10**6])
def test_larger_microbatches_are_timed_only_while_that_computes_at_most_the_samples_of_the_run(
    engines: int, samples: int
) -> None:
    machine = Machine()
    equal = [machine.candidate(str(number), 256, 0.01, 0.001) for number in range(engines)]
    tried = {trial.microbatch for trial in measure(equal, clock=machine.clock, samples=samples)}
    assert tried == {8, *(size for size in (32, 128) if 3 * engines * size <= samples)}
    for size in tried:
        assert sum(run[1] for run in machine.runs if run[1] == size) == samples_of_race(engines, size)


def test_a_slower_engine_is_given_up_earlier_than_the_fastest() -> None:
    machine = Machine()
    candidates = [machine.candidate("slow", 256, 0.01, 0.005), machine.candidate("fast", 256, 0.01, 0.001)]
    trials = measure(candidates, clock=machine.clock, samples=200)
    assert {(trial.engine, trial.microbatch) for trial in trials} == {("fast", 8), ("fast", 32), ("slow", 8)}


def refusing(machine: Machine, engine: str, above: int, error: type[InputError | MachineError]) -> Candidate:
    """The fastest of all, up to a size from which it refuses."""

    def work(size: int) -> None:
        if size > above:
            raise error(Problem(engine, str(size), f"at most {above}", "take fewer"))
        machine.now += 1e-4 * size**0.5

    return Candidate(engine, 256, work)


def test_an_engine_that_refuses_a_larger_microbatch_is_disqualified() -> None:
    machine, told = Machine(), []
    candidates = [refusing(machine, "a", 8, InputError), machine.candidate("b", 256, 0, 0.001)]
    trials = measure(candidates, clock=machine.clock, refused=lambda engine, size, error: told.append((engine, size)))
    assert {one.engine for one in trials} == {"b"}
    assert told == [("a", 32)]


def test_an_engine_without_memory_for_a_larger_microbatch_keeps_the_smaller_one() -> None:
    machine = Machine()
    candidates = [refusing(machine, "a", 8, MachineError), machine.candidate("b", 256, 0, 0.001)]
    assert measure(candidates, clock=machine.clock)[0].engine == "a"


def test_the_refusal_is_raised_if_no_engine_is_left() -> None:
    machine = Machine()
    with pytest.raises(InputError, match="at most 4"):
        measure([refusing(machine, "a", 4, InputError)], clock=machine.clock)


def test_what_other_processes_take_does_not_count() -> None:
    machine, noise = Machine(), random.Random(3)

    def disturbed(engine: str, each: float) -> Candidate:
        def work(size: int) -> None:
            machine.now += each * size
            machine.waited += noise.random()

        return Candidate(engine, 256, work)

    trials = measure([disturbed("hooks", 0.002), disturbed("vmap", 0.001)], clock=machine.clock)
    assert {trial.engine: round(trial.seconds, 6) for trial in trials} == {"hooks": 0.002, "vmap": 0.001}


def test_candidates_take_turns() -> None:
    machine = Machine()
    measure([machine.candidate("a", 8, 0, 0.001), machine.candidate("b", 8, 0, 0.001)], clock=machine.clock)
    assert machine.runs == [("a", 8), ("b", 8)] * 3


@pytest.mark.parametrize(
    ("runs", "seconds"),
    [
        ([(1.0, 1.0)], 1.0),
        ([(3.0, 1.0), (5.0, 1.2)], 1.0),  # one thread on a busy machine
        ([(1.0, 4.0), (1.1, 4.0)], 1.0),  # four threads on an idle one
        ([(1.0, 4.0), (4.0, 4.4)], 1.0),  # then on a busy one
    ],
)
def test_time_on_an_idle_machine(runs: list[tuple[float, float]], seconds: float) -> None:
    assert undisturbed(runs) == pytest.approx(seconds)


def test_a_clear_winner_is_chosen() -> None:
    assert choose([Trial("loop", 8, 1.0), Trial("hooks", 8, 1.3), Trial("vmap", 32, 2.0)]).engine == "loop"
    assert choose([Trial("vmap", 8, 1.0), Trial("vmap", 32, 0.7), Trial("hooks", 8, 2.0)]) == Trial("vmap", 32, 0.7)


@pytest.mark.parametrize("seed", range(20))
def test_among_equals_the_choice_does_not_depend_on_the_clock(seed: int) -> None:
    noise = random.Random(seed)
    trials = [Trial(engine, size, 1 + 0.24 * noise.random()) for engine in ("loop", "vmap", "hooks") for size in (128, 8, 32)]
    noise.shuffle(trials)
    chosen = choose(trials)
    assert (chosen.engine, chosen.microbatch) == ("hooks", 8)
