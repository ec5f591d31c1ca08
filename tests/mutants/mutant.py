"""mutant.py - what a mutant is: one snippet of one file, and what stands there in its place."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`before` is in `file` exactly once. `tests` are the names of the tests in CTest, joined by
    "|", of which at least one must fail."""

    name: str
    file: str
    before: str
    after: str
    tests: str
    kind: str

    def unfit(self, root):
        """Why it cannot be made; None: it can."""
        path = root / self.file
        if not path.is_file():
            return f"{self.name}: there is no {self.file}"
        count = path.read_text(encoding="utf-8").count(self.before)
        if count != 1:
            return f"{self.name}: its snippet is in {self.file} {count} times, not once"
        if self.before == self.after:
            return f"{self.name}: it changes nothing"
        return None

    def applied(self, text):
        return text.replace(self.before, self.after)


def of(kind, file, rows):
    """Mutants of one file: rows of name, before, after, tests."""
    return [Mutant(name, file, before, after, tests, kind)
            for name, before, after, tests in rows]
