NAME = "imported from the same folder"
