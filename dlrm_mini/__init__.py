"""dlrm-mini: deep learning recommendation models, built one idea at a time.

The notebooks teach; this package holds, under the same names, what they built. Importing it imports
nothing heavy, so that `python -m dlrm_mini` can set up an environment before torch exists.
"""

__version__ = "0.1.0"
