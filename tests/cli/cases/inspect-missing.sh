lors inspect nowhere
