"""What importing `jaxopt_study` costs beyond importing jax and optax.

Every time is that of a new process; the two take turns.
"""

import argparse
import statistics
import subprocess
import sys
import time

PEERS = "import jax, optax"
OURS = "import jax, optax, jaxopt_study"


def seconds(statement: str) -> float:
    """Wall time of a new Python that runs `statement`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    """The command line: measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    rounds = parser.parse_args().rounds
    seconds(OURS)  # writes the bytecode
    pairs = [(seconds(PEERS), seconds(OURS)) for _ in range(rounds)]
    print(f"{PEERS}: {statistics.median(first for first, _ in pairs):.3f} s")
    print(f"{OURS}: {statistics.median(second for _, second in pairs):.3f} s")
    print(f"more, median of {rounds} differences: {statistics.median(b - a for a, b in pairs):.3f} s")


if __name__ == "__main__":
    main()
