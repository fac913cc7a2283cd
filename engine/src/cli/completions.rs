//! `velib completions`: what the Tab key needs to know.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::print::Stream;

/// Print the completions of a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  velib completions bash > ~/.local/share/bash-completion/completions/velib
  velib completions zsh > ~/.zfunc/_velib
  velib completions fish > ~/.config/fish/completions/velib.fish")]
pub struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "velib", &mut script);
    Stream::Out.text(&String::from_utf8(script)?);
    Ok(())
}
