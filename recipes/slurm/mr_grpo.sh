#!/bin/bash
# MR-GRPO on several machines under Slurm: one launcher a machine, which starts one process a GPU.
#
#   sbatch --nodes 2 recipes/slurm/mr_grpo.sh --config recipes/configs/qwen3_vl_4b_koniq.yaml --output_dir /shared/run
#   ACCELERATE_CONFIG=recipes/configs/accelerate/fsdp2_nodes.yaml sbatch --nodes 4 recipes/slurm/mr_grpo.sh …
#
# Submit it from the root of the repository, with the environment activated; every machine has to see both, the images
# and output_dir. A job that was killed, preempted or requeued goes on from its last whole checkpoint.
#SBATCH --job-name=mr_grpo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mr_grpo-%j.log
set -euo pipefail

export ACCELERATE_CONFIG="${ACCELERATE_CONFIG:-recipes/configs/accelerate/zero2_nodes.yaml}"
export GPUS="${SLURM_GPUS_ON_NODE:-8}"
HOSTS="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
export MASTER="${HOSTS%%$'\n'*}"
export PORT="$((20000 + SLURM_JOB_ID % 20000))" # two jobs may share a machine
export OMP_NUM_THREADS="$((${SLURM_CPUS_PER_TASK:-8} / GPUS))"

# --kill-on-bad-exit: if one machine's launcher dies, the others would wait for it until they time out.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch \
    --config_file "$ACCELERATE_CONFIG" \
    --num_machines "$SLURM_NNODES" \
    --num_processes "$((SLURM_NNODES * GPUS))" \
    --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MASTER" \
    --main_process_port "$PORT" \
    recipes/mr_grpo.py "$@" --resume_from_checkpoint auto' mr_grpo "$@"
