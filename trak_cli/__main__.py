"""``trak``, which is ``python -m trak_cli``. Nothing is imported before Ctrl-C is looked after."""


def main() -> None:
    """Entry point of the ``trak`` script."""
    try:
        from trak_cli.cli.app import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
