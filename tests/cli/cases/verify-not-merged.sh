tiny --name base
lors verify models/base
echo $?
lors verify nowhere
echo $?
