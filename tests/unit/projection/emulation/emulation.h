// A GPU for one C++ compiler: runs the kernels' own source on the CPU, thread by thread.
//
// Each GPU thread of a block is a fiber with a stack of its own; a barrier or a warp-wide operation switches to the next
// fiber until enough of them have arrived. Blocks run one after another. The order in which fibers take turns is chosen
// by the caller: a kernel whose result depends on it lacks a barrier. Shared memory starts out as NaN bytes, and
// asynchronous copies arrive at copy_wait() and no sooner.
#pragma once
#define TRAK_EMULATED

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <tuple>
#include <vector>

struct Index {
    unsigned x, y, z;
};

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace emulation {

const int WARP = 32;
const size_t STACK = 256 * 1024;

// Counts arrivals. The last of `size` threads opens it for all and starts the next round.
struct Barrier {
    int arrived = 0;
    long round = 0;
};

struct Copy {
    void* to;
    const void* from;
};

struct Fiber {
    Index thread;
    int number;
    bool started = false, finished = false;
    ucontext_t start;
    jmp_buf at;
    std::vector<char> stack;
    std::vector<Copy> copies;
    size_t placed;  // bytes of static shared memory that it has met
};

// What the lanes of a warp hand each other. Two rounds in turn: a fast lane may be one operation ahead of a slow one.
struct Exchange {
    Barrier barrier;
    unsigned words[2][WARP][6];
    float sums[2][WARP][4];
};

inline std::vector<Fiber> fibers;
inline std::vector<int> order;  // who follows whom
inline std::vector<int> place;  // where in `order` each fiber is
inline std::vector<Exchange> warps;
inline Barrier block;
inline Fiber* running;
inline Index block_index, grid;
inline std::vector<unsigned char> shared_memory;
alignas(16) inline unsigned char static_shared[48 * 1024];
inline std::function<void()> body;
inline jmp_buf leave;
inline int unfinished;
inline long idle_turns;  // switches since anything last happened
inline bool deadlock;

inline void enter() {
    body();
    running->finished = true;
    unfinished--;
    idle_turns = 0;
    if (unfinished == 0) _longjmp(leave, 1);
    for (int at = place[running->number];;) {
        at = (at + 1) % (int)order.size();
        Fiber& next = fibers[order[at]];
        if (next.finished) continue;
        running = &next;
        if (next.started) _longjmp(next.at, 1);
        next.started = true;
        setcontext(&next.start);
    }
}

// Lets the next unfinished fiber go on.
inline void yield() {
    if (++idle_turns > 4 * (long)order.size()) {
        deadlock = true;
        _longjmp(leave, 1);
    }
    Fiber* self = running;
    int at = place[self->number];
    Fiber* next;
    do {
        at = (at + 1) % (int)order.size();
        next = &fibers[order[at]];
    } while (next->finished);
    if (next == self) return;
    if (_setjmp(self->at) == 0) {
        running = next;
        if (next->started) _longjmp(next->at, 1);
        next->started = true;
        setcontext(&next->start);
    }
}

// Waits for `size` threads; the last to come does `work` first. Returns the number of this round.
template <class Work>
long meet(Barrier& barrier, int size, Work work) {
    const long round = barrier.round;
    if (++barrier.arrived == size) {
        work();
        barrier.arrived = 0;
        barrier.round++;
        idle_turns = 0;
    } else {
        while (barrier.round == round) yield();
    }
    return round;
}

inline Exchange& warp() { return warps[running->number / WARP]; }

// The next piece of static shared memory; every thread meets the same ones in the same order.
template <class Type>
Type* shared() {
    unsigned char* at = static_shared + running->placed;
    running->placed += (sizeof(Type) + 15) / 16 * 16;
    return reinterpret_cast<Type*>(at);
}

inline unsigned shuffle(unsigned value, int source, int width) {
    Exchange& mine = warp();
    const int lane = running->number % WARP, half = (int)(mine.barrier.round % 2);
    mine.words[half][lane][0] = value;
    meet(mine.barrier, WARP, [] {});
    return mine.words[half][lane / width * width + source % width][0];
}

inline float of_half(unsigned short half) {
    _Float16 number;
    std::memcpy(&number, &half, 2);
    return (float)number;
}

// The product that warp_mma.cuh describes, done once by the lane that comes last.
inline void multiply(Exchange& mine, int half) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < WARP; lane++) {
        const int g = lane / 4, q = lane % 4;
        const unsigned* word = mine.words[half][lane];
        for (int i = 0; i < 2; i++) {
            a[g][2 * q + i] = of_half((unsigned short)(word[0] >> (16 * i)));
            a[g + 8][2 * q + i] = of_half((unsigned short)(word[1] >> (16 * i)));
            a[g][2 * q + 8 + i] = of_half((unsigned short)(word[2] >> (16 * i)));
            a[g + 8][2 * q + 8 + i] = of_half((unsigned short)(word[3] >> (16 * i)));
            b[2 * q + i][g] = of_half((unsigned short)(word[4] >> (16 * i)));
            b[2 * q + 8 + i][g] = of_half((unsigned short)(word[5] >> (16 * i)));
        }
    }
    for (int row = 0; row < 16; row++) {
        float sum[8] = {};
        for (int k = 0; k < 16; k++) {
            for (int column = 0; column < 8; column++) sum[column] += a[row][k] * b[k][column];
        }
        for (int column = 0; column < 8; column++) {
            mine.sums[half][row % 8 * 4 + column / 2][row / 8 * 2 + column % 2] += sum[column];
        }
    }
}

inline bool run_block(int threads, int turn) {
    std::fill(shared_memory.begin(), shared_memory.end(), 0xff);
    std::memset(static_shared, 0xff, sizeof static_shared);
    order.resize(threads);
    for (int i = 0; i < threads; i++) order[i] = turn == 1 ? threads - 1 - i : i;
    if (turn > 1) std::shuffle(order.begin(), order.end(), std::mt19937(turn));
    place.resize(threads);
    for (int i = 0; i < threads; i++) place[order[i]] = i;
    if ((int)fibers.size() < threads) fibers.resize(threads);
    warps.assign((threads + WARP - 1) / WARP, Exchange());
    block = Barrier();
    for (int i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.thread = Index{(unsigned)i, 0, 0};
        fiber.number = i;
        fiber.started = fiber.finished = false;
        fiber.copies.clear();
        fiber.placed = 0;
        fiber.stack.resize(STACK);
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = STACK;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, enter, 0);
    }
    unfinished = threads;
    idle_turns = 0;
    deadlock = false;
    if (_setjmp(leave) == 0) {
        running = &fibers[order[0]];
        running->started = true;
        setcontext(&running->start);
    }
    return !deadlock;
}

template <class... Args, size_t... I>
int launch(void (*kernel)(Args...), const int* shape, void** args, std::index_sequence<I...>) {
    const int threads = shape[2], turn = shape[4];
    grid = Index{(unsigned)shape[0], (unsigned)shape[1], 1};
    shared_memory.resize(shape[3] + 16);
    body = [=] { kernel(*static_cast<std::decay_t<Args>*>(args[I])...); };
    for (block_index.y = 0; block_index.y < grid.y; block_index.y++) {
        for (block_index.x = 0; block_index.x < grid.x; block_index.x++) {
            if (!run_block(threads, turn)) return 1;
        }
    }
    return 0;
}

// shape: grid x, grid y, threads, bytes of shared memory, order of turns (0 ascending, 1 descending, else shuffled).
// Returns 0, or 1 when threads waited for others that never came.
template <class... Args>
int launch(void (*kernel)(Args...), const int* shape, void** args) {
    return launch(kernel, shape, args, std::index_sequence_for<Args...>());
}

}  // namespace emulation

#define EMULATE(kernel) \
    extern "C" int emulate_##kernel(const int* shape, void** args) { return emulation::launch(kernel, shape, args); }

#define TRAK_DEVICE inline
#define TRAK_KERNEL static
#define TRAK_BOUNDS(threads, blocks)
#define TRAK_UNROLL
#define TRAK_DYNAMIC_SHARED(name) \
    unsigned char* name = (unsigned char*)(((uintptr_t)emulation::shared_memory.data() + 15) / 16 * 16)
#define TRAK_SHARED(type, name) type& name = *emulation::shared<type>()
#define threadIdx (emulation::running->thread)
#define blockIdx (emulation::block_index)
#define gridDim (emulation::grid)

inline unsigned shuffle(unsigned value, int lane, int width) { return emulation::shuffle(value, lane, width); }
inline void warp_barrier() { emulation::meet(emulation::warp().barrier, emulation::WARP, [] {}); }
inline void block_barrier() { emulation::meet(emulation::block, emulation::unfinished, [] {}); }
inline void copy16(void* to, const void* from) { emulation::running->copies.push_back({to, from}); }

inline void copy_wait() {
    for (const emulation::Copy& copy : emulation::running->copies) std::memcpy(copy.to, copy.from, 16);
    emulation::running->copies.clear();
}

inline unsigned bits_of(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline unsigned multiply_high(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }

inline void emulated_mma(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    emulation::Exchange& mine = emulation::warp();
    const int lane = emulation::running->number % emulation::WARP, half = (int)(mine.barrier.round % 2);
    unsigned* word = mine.words[half][lane];
    std::memcpy(word, a, 16);
    word[4] = b0, word[5] = b1;
    std::memcpy(mine.sums[half][lane], sum, 16);
    emulation::meet(mine.barrier, emulation::WARP, [&] { emulation::multiply(mine, half); });
    std::memcpy(sum, mine.sums[half][lane], 16);
}
