#!/usr/bin/env python3
"""What loading a model takes: weir's time beside that of making an onnxruntime session, in turns, and weir's memory.

    load.py WEIR MODEL [ROUNDS]     (with a Python that has onnxruntime, e.g. `scripts/venv.sh onnx tests/onnx/requirements.txt`)

Time: from the file to an engine that can run, one thread, each in a process of its own; medians, and the median of the rounds' ratios.
Memory: the service and the model's process (`weir bench engine` and all it starts), every few milliseconds until the model's process
has ended: the most that they have together by PSS, and the sum of what each ever had (VmHWM), which counts shared memory twice.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SESSION = """
import sys, time, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
wall, cpu = time.perf_counter(), time.process_time()
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
# Between two looks at the memory, seconds.
INTERVAL_S = 0.004


def onnxruntime(model):
    done = subprocess.run([sys.executable, "-c", SESSION, model], capture_output=True, text=True, check=True)
    return [1e3 * float(number) for number in done.stdout.split()]


def weir(program, model):
    command = [program, "bench", "engine", "--model", model, "--runs", "1", "--json"]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [done["load_wall_ms"], done["load_cpu_ms"]], done


def tree(root):
    """The process and all that it started: workers are forked by any of its threads."""
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                left += [int(child) for child in task.read_text().split()]
            except OSError:
                pass
    return found


def value(pid, file, key):
    try:
        lines = pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0) / 1024


def is_model(pid):
    try:
        return b"\0model\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def memory(program, model):
    command = [program, "bench", "engine", "--model", model, "--runs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most, highest, seen = 0, {}, False
    while process.poll() is None:
        pids = tree(process.pid)
        loading = any(is_model(pid) for pid in pids)
        if seen and not loading:
            break
        seen |= loading
        most = max(most, sum(value(pid, "smaps_rollup", "Pss:") for pid in pids))
        for pid in pids:
            highest[pid] = max(highest.get(pid, 0), value(pid, "status", "VmHWM:"))
        time.sleep(INTERVAL_S)
    process.wait()
    return most, sum(highest.values())


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    program, model, rounds = os.path.abspath(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 7
    onnxruntime(model), weir(program, model)  # the file is in memory from now on
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(onnxruntime(model))
        times, figures = weir(program, model)
        ours.append(times)
    median = lambda rows, column: statistics.median(row[column] for row in rows)
    for column, name in enumerate(["wall", "cpu"]):
        ratio = statistics.median(own[column] / other[column] for own, other in zip(ours, theirs))
        print(f"{name:5} weir {median(ours, column):.0f} ms, onnxruntime {median(theirs, column):.0f} ms, ratio {ratio:.2f}")
    weights = figures["weights_bytes"] / 2**20
    pss, highest = (max(numbers) for numbers in zip(*(memory(program, model) for _ in range(3))))
    print(f"memory {pss:.0f} MiB by PSS, {highest:.0f} MiB by VmHWM; weights {weights:.1f} MiB, 1.5 of that and 40 MiB: {1.5 * weights + 40:.0f} MiB; engine {figures['engine']}")


if __name__ == "__main__":
    main()
