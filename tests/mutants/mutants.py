#!/usr/bin/env python3
"""mutants.py - all mutants; run by itself: does each still fit the sources?

    mutants.py ROOT

A change of the code can leave a mutant without its snippet: it is to be made anew where the code
has gone, or dropped. The nominated tests are not run here; see run.py.
"""
import pathlib
import sys

import list_io
import list_merge
import list_numbers

ALL = list_io.MUTANTS + list_merge.MUTANTS + list_numbers.MUTANTS


def problems(root):
    """Sentences about mutants that do not fit."""
    found = [why for why in (mutant.unfit(root) for mutant in ALL) if why]
    names = [mutant.name for mutant in ALL]
    found += [f"{name}: the name is given twice" for name in sorted(set(names))
              if names.count(name) > 1]
    return found


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = problems(pathlib.Path(sys.argv[1]))
    for sentence in found:
        print(sentence)
    print(f"{len(ALL)} mutants, {len(found)} do not fit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
