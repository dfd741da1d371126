#!/usr/bin/env bash
# A Slurm of one node, for tests: munge and Slurm by hand, state, spool, keys and ports of its own.
#
#   tests/integration/slurm.sh up DIR       bring it up; export SLURM_CONF=DIR/slurm.conf to talk to it
#   tests/integration/slurm.sh down DIR     take it down
#
# Needs root (slurmd starts jobs as their users), and Debian's slurm-wlm and munge.
set -euo pipefail

command=${1:?up or down} dir=${2:?a folder}
export PATH="$PATH:/usr/sbin:/sbin"

stop() { # name, pid file
  local pid
  pid=$(cat "$2" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

down() {
  SLURM_CONF="$dir/slurm.conf" scancel --quiet --user root 2>/dev/null || true
  stop slurmd "$dir/slurmd.pid"
  stop slurmctld "$dir/slurmctld.pid"
  stop munged "$dir/munge/munged.pid"
}

if [ "$command" = down ]; then
  down
  exit 0
fi

for program in munged slurmctld slurmd sinfo; do
  command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
host=$(hostname -s)
mkdir -p "$dir/state" "$dir/spool" "$dir/munge"
dir=$(cd "$dir" && pwd)
chmod 700 "$dir/munge"
head -c 1024 /dev/urandom >"$dir/munge/key"
chmod 600 "$dir/munge/key"
munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/munged.pid" \
  --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"

# Pid and log files are where they are told; ports follow from the folder, so that two can be up at once.
port=$((20000 + $(echo "$dir" | cksum | cut -d' ' -f1) % 20000))
cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
export SLURM_CONF="$dir/slurm.conf"
slurmctld -c -f "$dir/slurm.conf"
slurmd -c -f "$dir/slurm.conf"
for _ in $(seq 100); do
  case "$(sinfo --noheader --format=%T 2>/dev/null || true)" in
    idle) exit 0 ;;
  esac
  sleep 0.2
done
echo "the node did not come up:" >&2
tail -n 5 "$dir/slurmctld.log" "$dir/slurmd.log" >&2
down
exit 1
