# Colour on a terminal, unless NO_COLOR says otherwise; never elsewhere.
on_terminal lors nothing
NO_COLOR=1 on_terminal lors nothing
NO_COLOR= on_terminal lors nothing | head -n 1
lors nothing 2>&1 | cat -v
