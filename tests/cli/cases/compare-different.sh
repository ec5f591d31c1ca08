tiny --name base
tiny --name de --delta-of base --seed 2 --unchanged '*.decoder.*' --unchanged '*.layers.0.*'
lors compare models/base models/de
