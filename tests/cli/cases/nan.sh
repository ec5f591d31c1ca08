models --fault nan
recipe
merge -o out
code=$?
left
merge -o out --nonfinite propagate
merge -fo out --nonfinite zero | tail -n 3
exit $code
