lors merge nowhere.yaml -o out
