"""What would happen if: clusters of a scenario, run by the real machines in virtual time.

`mesosctl simulate` reads the file (cli/scenariofile.py) and prints what `run` answers.
"""
