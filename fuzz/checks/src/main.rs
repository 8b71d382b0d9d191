//! Runs the checks on random bytes: what `make fuzz` does, without nightly and without cargo-fuzz.
//!
//! ```text
//! check TARGET [--seconds N] [--seed N]     random cases for N seconds (default 60), starting at a seed
//! check TARGET --input FILE                 one case, from a file written by a failure or by cargo-fuzz
//! ```

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("prune", checks::prune),
    ("decode", checks::decode),
    ("preprocess", checks::preprocess),
    ("pixel_values", checks::pixel_values),
];

struct Arguments {
    name: &'static str,
    target: Target,
    seconds: u64,
    seed: u64,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments() {
        Ok(arguments) => run(&arguments),
        Err(error) => {
            let names = TARGETS.map(|(name, _)| name).join("|");
            eprintln!("{error}\nusage: check {names} [--seconds N] [--seed N] [--input FILE]");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let wanted = given.next().ok_or("no target")?;
    let known = TARGETS.into_iter().find(|(name, _)| *name == wanted);
    let (name, target) = known.ok_or(format!("unknown target {wanted}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    // Far enough apart that two runs do not share their cases, and short enough to type.
    let mut arguments =
        Arguments { name, target, seconds: 60, seed: now / 1000 % 1_000_000 * 1_000_000, input: None };
    while let Some(option) = given.next() {
        let value = given.next().ok_or(format!("{option} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{option} is {value}; expected a number"));
        match option.as_str() {
            "--seconds" => arguments.seconds = number()?,
            "--seed" => arguments.seed = number()?,
            "--input" => arguments.input = Some(value.into()),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { name, target, seconds, seed, input } = arguments;
    if let Some(path) = input {
        let bytes = fs::read(path).expect("the input can be read");
        target(&bytes);
        println!("{name}: {} holds", path.display());
        return ExitCode::SUCCESS;
    }
    println!("{name}: {seconds} s, starting at seed {seed}");
    let until = Instant::now() + Duration::from_secs(*seconds);
    let mut cases = 0;
    while cases == 0 || Instant::now() < until {
        let seed = seed.wrapping_add(cases);
        let bytes = bytes(seed);
        if catch_unwind(|| target(&bytes)).is_err() {
            report(name, seed, &bytes);
            return ExitCode::FAILURE;
        }
        cases += 1;
    }
    println!("{name}: {cases} cases hold");
    ExitCode::SUCCESS
}

/// Prints what failed and how to reproduce it.
fn report(name: &str, seed: u64, bytes: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../artifacts").join(name);
    let path = folder.join(format!("seed-{seed}"));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    eprintln!("\n{name} fails at seed {seed}, input {hex}");
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes)) {
        Ok(()) => eprintln!("to see it again: make fuzz-replay TARGET={name} INPUT={}", path.display()),
        Err(error) => eprintln!("to see it again: check {name} --seconds 0 --seed {seed} ({error})"),
    }
}

/// The input of a seed: random bytes, whose number has a random order of magnitude.
fn bytes(seed: u64) -> Vec<u8> {
    let mut noise = checks::Noise(seed);
    let longest = 1 << (noise.number() % 12);
    let length = noise.number() % longest + 1;
    (0..length).map(|_| noise.byte()).collect()
}
