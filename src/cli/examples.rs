//! The examples at the end of each command's help. A test runs them all.

/// Defines the text after a command's help: its examples and a reference to the glossary.
macro_rules! examples {
    ($($name:ident = $text:literal;)*) => {
        $(pub const $name: &str = concat!(
            "Examples:\n",
            $text,
            "\n\nSee docs/glossary.md for the meaning of terms such as group, rollout, step, saturation and pass."
        );)*
    };
}

examples! {
    RLVR = "  # Train the embedded model on one problem, and look at the result
  rlvr train --steps 300 --out first
  rlvr report first

  # Ask the trained model
  rlvr sample --model first/checkpoints/best --prompt \"What is 12+34?\"

  # The same with your own problem
  rlvr train --question \"What is 943-205?\" --answer 738";

    TRAIN = "  # The demonstration: the embedded model, one addition problem
  rlvr train

  # Your own problem, without the entropy bonus
  rlvr train --question \"What is 943-205?\" --answer 738 --set loss.entropy=0

  # The paper's main run: settings from a file, the model from a folder
  # Needs a GPU and the model
  rlvr train --config configs/pi1.toml --model DIR --data-dir DATA

  # Check everything that needs no weights, and print the settings
  rlvr train --example examples/linear.toml --dry-run

  # Watch the report of the run in a browser until the run ends
  rlvr train --steps 100 --report

  # Four processes on this machine
  # Needs MPI
  rlvr train --processes 4

  # Continue a stopped run, and extend it
  rlvr train --resume runs/tiny-334+556 --steps 400";

    STUDY = "  # Compare loss terms: all arms and seeds, two runs at a time
  rlvr study configs/tiny/terms.toml --jobs 2 --out terms

  # The runs dealt over 16 processes on two machines, each with a GPU
  # Needs MPI
  mpirun -n 16 --host a:8,b:8 rlvr study configs/paper/all.toml

  # Check all runs without starting one
  rlvr study configs/paper/all.toml --dry-run";

    PLAN = "  # The paper's main run on this machine
  rlvr plan --model qwen2.5-math-1.5b --example pi1

  # The same on a GPU that this machine does not have
  rlvr plan --config configs/pi1-24gb.toml --gpu rtx-4090

  # Which of all known GPUs the run fits on, and how long it takes there
  rlvr plan --model qwen2.5-math-1.5b --example pi1 --cards

  # Any other GPU with 24 GiB
  rlvr plan --config configs/pi1-24gb.toml --gpu-memory 24

  # Eight processes, each with a GPU: memory of each, time and efficiency
  rlvr plan --model qwen2.5-math-1.5b --example pi1 --gpu h100 --processes 8";

    REPORT = "  # One file with the whole run: runs/tiny-334+556/report.html
  rlvr report runs/tiny-334+556

  # Compare runs; those that differ only in the seed are one group
  rlvr train --seed 1 --out runs/seed-1
  rlvr report runs/tiny-334+556 runs/seed-1 -o comparison.html

  # A study: its table, and the curves of its arms
  rlvr study configs/tiny/terms.toml --out terms
  rlvr report terms

  # Serve the report, and refresh it while the run goes
  rlvr report --watch runs/tiny-334+556";

    RUNS = "  # List the runs in runs/, with those of studies
  rlvr runs

  # The folders of all stopped runs
  # Needs jq
  rlvr runs --json | jq -r '.runs[] | select(.state == \"interrupted\") | .folder'";

    SHOW = "  # What the run recorded, and the responses of its last step
  rlvr show runs/tiny-334+556

  # Responses to the training example at step 1
  rlvr show runs/tiny-334+556 --step 1

  # Held-out problems whose verdict changed
  rlvr show runs/tiny-334+556 --changed

  # One held-out problem before training, at saturation and at the end
  rlvr show runs/tiny-334+556 --problem 583+634

  # Wrong responses of one subject
  rlvr show runs/tiny-334+556 --wrong --subject addition -n 10";

    EVAL = "  # The best checkpoint of a run, on the embedded model's test problems
  rlvr eval --model runs/tiny-334+556/checkpoints/best --benchmarks tiny

  # Your own problems: JSON Lines with a question and an answer each
  rlvr eval --model tiny --benchmark-file examples/two.jsonl

  # Four processes on this machine
  # Needs MPI
  rlvr eval --model tiny --benchmarks tiny --processes 4

  # A model behind a server, recorded in a folder
  # Needs a server
  rlvr eval --endpoint http://localhost:8000 --model OWNER/NAME \\
      --benchmarks math500 --out scores";

    COMPARE = "  # Evaluate two models in the same way, then compare them
  rlvr eval --model tiny --benchmarks tiny --out base
  rlvr eval --model runs/tiny-334+556/checkpoints/best \\
      --benchmarks tiny --out trained
  rlvr compare base trained";

    DATA = "  # List the paper's data files and where they are
  rlvr data list

  # Download all of them once
  # Needs the network
  rlvr data pull

  # Read every file in a folder, and report each row that cannot be used
  rlvr data check --data-dir DATA";

    SELECT = "  # The ranking that the paper's examples come from
  rlvr select

  # The examples whose accuracy varied most in a run of your own
  rlvr select --run runs/tiny-334+556";

    SAMPLE = "  # Eight responses of the embedded base model
  rlvr sample --model tiny --prompt \"What is 12+34?\" -n 8

  # The most likely response of a trained checkpoint
  rlvr sample --model runs/tiny-334+556/checkpoints/best \\
      --temperature 0 --prompt \"What is the sum of the digits of 978,431?\"

  # Talk to a model; /help lists what you can set
  rlvr sample --model tiny --interactive";

    SCORE = "  # Each line has a prompt and a completion
  echo '{\"id\": \"a\", \"prompt\": \"2+2=\", \"completion\": \"4\"}' > pairs.jsonl
  rlvr score --model tiny --input pairs.jsonl";

    VERIFY = "  # One answer; exits 0 if it is correct, 1 if it is wrong
  rlvr verify --gold 12.8 --answer '\\frac{64}{5}' --explain

  # Many responses, one per line
  echo '{\"id\": 1, \"gold\": \"46\", \"response\": \"so \\\\boxed{46}\"}' | rlvr verify";

    PRETRAIN = "  # Pre-train a base model as the embedded one was, without repeated answers
  rlvr pretrain --out my-base --set mixture.repeats=0";

    INIT = "  # The embedded base model as a folder that transformers loads
  rlvr init --like tiny --out tiny-hf

  # Random weights with the shape of a known model
  rlvr init --like qwen2.5-math-1.5b --out random";

    BENCH = "  # Rollouts, updates and steps of the embedded model
  rlvr bench

  # The shape of a known model with random weights, rollouts only
  # Needs 7 GB of memory
  rlvr bench --shape qwen2.5-math-1.5b --sequences 4 \\
      --response-tokens 32 --work rollout";

    BENCH_EXCHANGE = "  # Two processes on this machine
  # Needs MPI
  mpirun -n 2 rlvr bench exchange

  # Two machines, 8 processes each, with 1 GB
  # Needs MPI
  mpirun -n 16 --host a:8,b:8 rlvr bench exchange --mb 1000";

    COMPLETIONS = "  # For the current bash session
  rlvr completions bash > rlvr.bash && source rlvr.bash";

    MAN = "  # Write one page per command, and read one
  rlvr man --out man && man man/rlvr-train.1";
}
