"""What every test run needs: the checks of the notebooks, added to nbval's."""

pytest_plugins = ["pytester", "tests.notebooks.nbval_plugin"]
