"""What would become of a file, found by loading it into a warehouse that is thrown away.

The files are read, planned and inserted by the code of a run; nothing here decides whether a file loads.
"""
