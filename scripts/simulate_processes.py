#!/usr/bin/env python3
"""Simulates a training step on several GPUs and prints the time of each part and the efficiency, as a Markdown table.

The program has not run on several GPUs yet, so this is arithmetic from assumptions, all of which are arguments: the shape of
Qwen2.5-Math-1.5B, lengths of responses, an H100's rates, and links between GPUs. The rollouts and the shards of the update are dealt as the
program deals them: requests in turn, and responses to shards longest first. Needs only Python's standard library.
"""

import argparse
import random


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--gpus", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="numbers of GPUs, powers of two")
    add("--responses", type=int, default=1024, help="responses per step")
    add("--mean", type=float, default=730, help="mean length of a response that ends by itself, in tokens (exponential)")
    add("--limit", type=int, default=3072, help="maximum length of a response")
    add("--truncated", type=float, default=0.03, help="share of the responses that reach the limit")
    add("--prompt", type=int, default=150, help="length of the prompt in tokens")
    add("--parameters", type=float, default=1.54e9, help="parameters of the model")
    add("--kv-bytes", type=float, default=28 * 2 * 2 * 128 * 2, help="bytes in the key/value cache per token")
    add("--pass-ms", type=float, default=2.0, help="time of a decoding pass without attention, in milliseconds")
    add("--memory-rate", type=float, default=0.8 * 3.35e12, help="bytes per second that attention reads")
    add("--flops", type=float, default=0.35 * 989e12, help="floating-point operations per second of the update")
    add("--recompute", type=float, default=0.0, help="share of the forward pass that the backward pass repeats")
    add("--node", type=int, default=8, help="GPUs per host")
    add("--fast-link", type=float, default=0.7 * 450e9, help="bytes per second and direction between GPUs of a host")
    add("--slow-link", type=float, default=0.7 * 50e9, help="bytes per second and direction of each GPU to another host")
    add("--seed", type=int, default=1)
    return parser.parse_args()


def lengths(args):
    """Returns the length of each response in tokens."""
    draw = random.Random(args.seed)
    one = lambda: args.limit if draw.random() < args.truncated else max(1, min(args.limit, round(draw.expovariate(1 / args.mean))))
    return [one() for _ in range(args.responses)]


def rollout_s(args, tokens):
    """Returns the time to decode responses of these lengths together: a pass per position, for those that are still running."""
    seconds, running = 0.0, sorted(tokens)
    done = 0
    for position in range(max(tokens)):
        while running[done] <= position:
            done += 1
        context = (len(running) - done) * (args.prompt + position)
        seconds += args.pass_ms / 1e3 + context * args.kv_bytes / args.memory_rate
    return seconds


def shard_tokens(tokens, shards):
    """Returns the tokens of each shard: the longest response first, to the shard with the fewest tokens."""
    sums = [0] * shards
    for length in sorted(tokens, reverse=True):
        sums[sums.index(min(sums))] += length
    return sums


def exchange_s(args, gpus):
    """Returns the time to add up f32 gradients by recursive halving, and to send bf16 weights from their owners to all."""
    seconds, distance, size = 0.0, 1, 4 * args.parameters
    while distance < gpus:
        size /= 2
        seconds += size / (args.fast_link if distance < args.node else args.slow_link)
        distance *= 2
    slowest = args.fast_link if gpus <= args.node else args.slow_link
    return seconds + 2 * args.parameters * (1 - 1 / gpus) / slowest


def main():
    args = arguments()
    tokens = lengths(args)
    alone = None
    print(f"{args.responses} responses, mean {sum(tokens) / len(tokens):.0f} tokens, longest {max(tokens)}\n")
    print("| GPUs | rollouts (s) | update (s) | exchange (s) | step (s) | efficiency | fullest shard / mean |")
    print("|---|---|---|---|---|---|---|")
    for gpus in args.gpus:
        if gpus & (gpus - 1) or gpus < 1:
            raise SystemExit(f"{gpus} GPUs: their number must be a power of two")
        rollouts = max(rollout_s(args, tokens[rank::gpus]) for rank in range(min(gpus, len(tokens))))
        shards = shard_tokens(tokens, gpus)
        update = max(shards) * (6 + 2 * args.recompute) * args.parameters / args.flops
        exchange = exchange_s(args, gpus) if gpus > 1 else 0.0
        step = rollouts + update + exchange
        alone = alone or step * gpus
        efficiency = alone / (step * gpus)
        uneven = max(shards) / (sum(shards) / gpus)
        print(f"| {gpus} | {rollouts:.1f} | {update:.2f} | {exchange:.3f} | {step:.1f} | {100 * efficiency:.0f}% | {uneven:.2f} |")


if __name__ == "__main__":
    main()
