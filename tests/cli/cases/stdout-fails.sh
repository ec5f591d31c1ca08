# A result that cannot be printed is an error, and never goes into a file by accident.
lors methods >/dev/full
echo "full: $?"
lors methods >&-
echo "closed: $?"
lors nothing 2>&-
echo "stderr closed: $?"
(sleep 0.5; lors methods --json; echo "pipe: $?" >&2) | true
lors --version >/dev/full
