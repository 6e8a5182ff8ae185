"""The kernel: the words of Foretaste as types, its ports and its errors. It knows no room."""
