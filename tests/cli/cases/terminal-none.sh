# A terminal that does not say what it can do is written to plainly.
on_terminal env -u TERM lors methods ties2
