"""The APIs of other packages, kept by ours: whoever runs one of them moves here by changing imports."""
