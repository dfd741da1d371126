"""What is measured, one file a suite; each is a script: `python -m jaxopt_study.bench.suites.NAME`."""
