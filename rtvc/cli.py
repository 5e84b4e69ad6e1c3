"""The command line: assembles the verbs; each loads its package only when called."""


def main() -> None:
    raise SystemExit("rtvc: not assembled yet")
