# Feast imports every module of this folder; it holds declarations alone.
