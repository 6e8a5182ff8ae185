"""The evaluation of towers and rivals: protocols, tuning, intervals, the committed tables and figures."""
