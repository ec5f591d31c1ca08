# The line is redrawn while the merge runs, and gone when the summary is printed.
zeros 3
on_terminal lors merge recipe.yaml -o out --device cpu >drawn
grep -oE '[0-9.]+ [kMG]?B of 805 MB, [0-9]+ %, [0-9.]+ [MG]B/s, 0:[0-9]+ left' drawn | grep -c . |
    sed 's/^[1-9][0-9]*$/lines of progress/'
grep -oE '.{6}merged 3 models' drawn
# Nothing of it with -q, on a dumb terminal, or without a terminal.
on_terminal lors merge recipe.yaml -fqo out --device cpu
on_terminal env TERM=dumb lors merge recipe.yaml -fo out --device cpu | grep -c 'K'
lors merge recipe.yaml -fo out --device cpu >summary
