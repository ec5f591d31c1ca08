# What went wrong before the output could not be printed decides the exit code.
mkdir folder
lors verify folder --json >/dev/full
echo "folder: $?"
