//! What is to be done about the membership: a function of what the database says, and of nothing else.
//!
//! Every process looks at the same rows several times a second; one of them leads, and decides. A **generation** is
//! a list of processes. The next one is due when the present one is over, when somebody of it is gone, or when the
//! list should be another one:
//!
//! | what is found | what is done |
//! |---|---|
//! | nobody leads, or whoever does has not renewed the lease | take the lead |
//! | no generation runs | wait until nobody else comes, form one of those that are there |
//! | a member is silent | form the next one without it; whoever still computes in the old one lets go of it |
//! | a member says that the generation is over | wait for the others to say so or to fall silent, form the next |
//! | members and those wanted differ | end the generation in good order, which all then say |
//!
//! Nobody is silent because the database was: ages are those of the rows, and they are only believed when the
//! database has answered without a gap for longer than a silence takes to be noticed.

use std::time::Duration;

use crate::postgres::membership::{Process, ProcessId, View};

/// Between a generation that broke at once and the next: what breaks again and again does so slowly.
pub const PAUSE: Duration = Duration::from_millis(500);
/// How long the first generation waits for the processes that the settings promise.
pub const GATHER: Duration = Duration::from_secs(10);
/// Processes that come one after the other put a generation off for so many times the settling.
const SETTLES: u32 = 5;
/// So many silences the database has to answer before anybody is taken for silent.
const STEADY: u32 = 2;

/// The settings.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who has not been heard of for so long is gone.
    pub silence: Duration,
    /// How long after the last process that came a generation is formed.
    pub settle: Duration,
    /// Processes that the first generation waits for.
    pub processes: usize,
}

/// What this process knows besides the rows.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint {
    /// This process.
    pub me: ProcessId,
    /// The greatest number of a generation that it has seen.
    pub known: u64,
    /// How long the database has answered without a gap.
    pub steady: Duration,
    /// How long the present generation has been known to be over.
    pub broken: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Take the lead from whoever has it.
    TakeLead,
    /// End the present generation in good order.
    Dissolve,
    /// Form the next generation of these, in this order.
    Form(Vec<ProcessId>),
}

/// What to do about `view`; `trusted` are those who know the secret that this process knows.
pub fn decide(view: &View, rules: &Rules, from: &Standpoint, trusted: impl Fn(&Process) -> bool) -> Step {
    let (present, silence) = (&view.generation, rules.silence.as_millis() as i64);
    let silent = |process: &Process| process.silent_ms > silence;
    if from.steady < rules.silence * STEADY && view.processes.iter().any(silent) {
        return Step::Wait;
    }
    let there = |id: &ProcessId| view.process(*id).filter(|process| !silent(process));
    let me = there(&from.me).is_some_and(|me| !me.place.leaving);
    if view.leader != Some(from.me) {
        let free = view.leader.is_none() || view.lease_ms < 0;
        // Whose members do not know our secret is not our cluster.
        let foreign = present.members.iter().filter_map(there).any(|member| !trusted(member));
        return if me && free && !foreign { Step::TakeLead } else { Step::Wait };
    }
    if !me {
        // Who leads and leaves commits what is closed first; then others take the lead.
        return Step::Wait;
    }
    let next = members(view, rules, &trusted);
    if next.is_empty() {
        return Step::Wait;
    }
    let living: Vec<&Process> = present.members.iter().filter_map(there).collect();
    if living.is_empty() {
        return if gathered(view, rules, &next) { Step::Form(next) } else { Step::Wait };
    }
    let lost = living.len() < present.members.len();
    let over = |process: &Process| process.place.ended >= present.number;
    if lost || present.number < from.known {
        return Step::Form(next);
    }
    if living.iter().any(|process| over(process)) {
        let all = living.iter().all(|process| over(process));
        // A member that died is not silent yet, and does not say anything any more.
        let waited = all || from.broken > rules.silence * 3 / 2;
        let paused = view.decided_ms >= PAUSE.as_millis() as i64;
        return if waited && paused { Step::Form(next) } else { Step::Wait };
    }
    if next == present.members {
        return Step::Wait;
    }
    let fewer = present.members.iter().any(|member| !next.contains(member));
    let came: Vec<&ProcessId> = next.iter().filter(|id| !present.members.contains(id)).collect();
    match fewer || settled(view, rules, &came) {
        true if present.members.first() == Some(&from.me) => Step::Dissolve,
        true => Step::Form(next),
        false => Step::Wait,
    }
}

/// Who is to compute: of those that are there, those of one shape, those first that already do, as many as wanted.
fn members(view: &View, rules: &Rules, trusted: &impl Fn(&Process) -> bool) -> Vec<ProcessId> {
    let there: Vec<&Process> = view
        .processes
        .iter()
        .filter(|process| process.silent_ms <= rules.silence.as_millis() as i64)
        .filter(|process| !process.place.leaving && trusted(process))
        .collect();
    let present = |process: &&&Process| view.generation.members.contains(&process.process);
    let Some(shape) = there.iter().find(present).or_else(|| commonest(&there)).map(|process| shape(process)) else {
        return vec![];
    };
    let mut next: Vec<ProcessId> =
        there.iter().filter(|process| self::shape(process) == shape).map(|process| process.process).collect();
    // Stable: those that came first stay first.
    let place = |id: &ProcessId| view.generation.members.iter().position(|member| member == id);
    next.sort_by_key(|id| place(id).unwrap_or(usize::MAX));
    next.truncate(view.wanted.unwrap_or(usize::MAX));
    next
}

/// What is the same in all processes of a generation.
fn shape(process: &Process) -> (i32, &str) {
    (process.workers, &process.version)
}

fn commonest<'a, 'b>(there: &'a [&'b Process]) -> Option<&'a &'b Process> {
    let alike = |one: &&Process| there.iter().filter(|other| shape(other) == shape(one)).count();
    // Of as many, the one that came first.
    there.iter().rev().max_by_key(|process| alike(process))
}

/// Nobody else is to be expected before the first generation.
fn gathered(view: &View, rules: &Rules, next: &[ProcessId]) -> bool {
    let promised = rules.processes.min(view.wanted.unwrap_or(usize::MAX));
    if promised > 0 {
        let oldest = next.iter().filter_map(|id| view.process(*id)).map(|process| process.joined_ms).max();
        return next.len() >= promised || oldest >= Some(GATHER.as_millis() as i64);
    }
    settled(view, rules, &next.iter().collect::<Vec<_>>())
}

/// Nobody of these has come just now, or they have been coming for long enough.
fn settled(view: &View, rules: &Rules, came: &[&ProcessId]) -> bool {
    let ages = || came.iter().filter_map(|id| view.process(**id)).map(|process| process.joined_ms);
    let settle = rules.settle.as_millis() as i64;
    ages().min() >= Some(settle) || ages().max() >= Some(settle * i64::from(SETTLES))
}

/// How a process stands in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to be part of the newest generation, at this place; 0 leads.
    Member(usize),
    /// It is there, and not needed.
    Standby,
    /// It cannot be part of the generation, or not yet: why.
    Waits(String),
}

/// How `id` stands.
pub fn standing(view: &View, rules: &Rules, id: ProcessId, trusted: impl Fn(&Process) -> bool) -> Standing {
    if let Some(index) = view.generation.members.iter().position(|member| *member == id) {
        return Standing::Member(index);
    }
    let Some(process) = view.process(id) else { return Standing::Waits("it is not registered yet".to_string()) };
    let silence = rules.silence.as_millis() as i64;
    let member = view.generation.members.iter().find_map(|member| view.process(*member));
    if let Some(member) = member.filter(|member| member.silent_ms <= silence) {
        if trusted(process) != trusted(member) {
            return Standing::Waits("its secret (cluster.secret) is not that of the others".to_string());
        }
        if process.workers != member.workers {
            return Standing::Waits(format!(
                "it has {} workers and the others {}; it takes over when all have as many (cluster.workers)",
                process.workers, member.workers
            ));
        }
        if process.version != member.version {
            return Standing::Waits(format!(
                "it is of version {} and the others of {}; it takes over when all are",
                process.version, member.version
            ));
        }
    }
    match view.wanted {
        Some(wanted) if wanted <= view.generation.members.len() => Standing::Standby,
        _ => Standing::Waits("waiting for a generation".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::membership::{Decided, Place};

    const RULES: Rules =
        Rules { silence: Duration::from_millis(800), settle: Duration::from_millis(1000), processes: 0 };

    fn id(name: char) -> ProcessId {
        ProcessId::from_bytes([name as u8; 16])
    }

    fn ids(names: &str) -> Vec<ProcessId> {
        names.chars().map(id).collect()
    }

    /// `a` for a process that is there, `a!900` silent for so long, `a+300` that came so long ago, `a.7` for which
    /// generation 7 is over, `a-` that leaves, `a*4` with so many workers, `a?` with another secret.
    fn process(text: &str) -> Process {
        let mut process = Process {
            process: id(text.chars().next().unwrap()),
            api: String::new(),
            mesh: String::new(),
            workers: 2,
            version: "1".to_string(),
            proof: vec![],
            joined_ms: 60_000,
            silent_ms: 100,
            place: Place::default(),
        };
        let mut rest = &text[1..];
        while !rest.is_empty() {
            let (what, more) = rest.split_at(1);
            let digits = more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
            let number: i64 = more[..digits].parse().unwrap_or_default();
            rest = &more[digits..];
            match what {
                "!" => process.silent_ms = number,
                "+" => process.joined_ms = number,
                "." => process.place.ended = number as u64,
                "-" => process.place.leaving = true,
                "*" => process.workers = number as i32,
                "?" => process.proof = vec![1],
                other => panic!("{other}"),
            }
        }
        process
    }

    /// `leader` before `generation:members`, and the processes.
    fn view(leader: &str, generation: &str, processes: &str) -> View {
        let (number, members) = generation.split_once(':').unwrap();
        View {
            leader: leader.chars().next().map(id),
            lease_ms: if leader.ends_with('!') { -100 } else { 500 },
            wanted: None,
            generation: Decided { number: number.parse().unwrap(), members: ids(members), addresses: vec![] },
            decided_ms: 60_000,
            processes: processes.split_whitespace().map(process).collect(),
        }
    }

    fn form(names: &str) -> Step {
        Step::Form(ids(names))
    }

    const LONG: Duration = Duration::from_secs(60);

    fn of(me: char) -> Standpoint {
        Standpoint { me: id(me), known: 0, steady: LONG, broken: Duration::ZERO }
    }

    fn trusted(process: &Process) -> bool {
        process.proof.is_empty()
    }

    #[test]
    fn what_is_found_and_what_is_done() {
        use Step::{Dissolve, TakeLead, Wait};
        for (what, leader, generation, processes, me, expected) in [
            ("the first of all takes the lead", "", "0:", "a+10", 'a', TakeLead),
            ("and waits for others", "a", "0:", "a+10", 'a', Wait),
            ("three that start together are one generation", "a", "0:", "a+1900 b+1500 c+1000", 'a', form("abc")),
            ("not before the last has settled", "a", "0:", "a+1900 b+1500 c+900", 'a', Wait),
            ("nor later than five settlings", "a", "0:", "a+5000 b+1500 c+900", 'a', form("abc")),
            ("what runs is left alone", "a", "7:abc", "a b c", 'a', Wait),
            ("who does not lead does nothing", "a", "7:abc", "a b!900 c", 'c', Wait),
            ("a silent member", "a", "7:abc", "a b!801 c", 'a', form("ac")),
            ("not silent for long enough", "a", "7:abc", "a b!799 c", 'a', Wait),
            ("a member whose row is gone", "a", "7:abc", "a c", 'a', form("ac")),
            ("the leader falls silent: another takes over", "a!", "7:abc", "a!900 b c", 'b', TakeLead),
            ("who takes over goes on without it", "b", "7:abc", "a!900 b c", 'b', form("bc")),
            ("a leader that is late keeps its lead", "a", "7:abc", "a!700 b c", 'b', Wait),
            ("a leader that took its leave", "", "7:abc", "b.7 c.7", 'c', TakeLead),
            ("is not waited for", "c", "7:abc", "b.7 c.7", 'c', form("bc")),
            ("over for all", "a", "7:abc", "a.7 b.7 c.7", 'a', form("abc")),
            ("over for some: the others will say so", "a", "7:abc", "a.7 b c.7", 'a', Wait),
            ("a newcomer settles", "a", "7:ab", "a b c+900", 'a', Wait),
            ("and is taken in", "a", "7:ab", "a b c+1000", 'a', Dissolve),
            ("at once where a generation is formed anyway", "a", "7:ab", "a b!900 c+10", 'a', form("ac")),
            ("a member leaves", "a", "7:abc", "a b- c", 'a', Dissolve),
            ("and all have let go", "a", "7:abc", "a.7 b-.7 c.7", 'a', form("ac")),
            ("a leader that leaves commits first", "a", "7:abc", "a- b c", 'a', Wait),
            ("who leaves does not take the lead", "a!", "7:ab", "a!900 b-", 'b', Wait),
            ("another number of workers waits", "a", "7:ab", "a b c*4", 'a', Wait),
            ("until it is all of them", "c", "7:ab", "a!900 b!900 c*4+9000", 'c', form("c")),
            ("the most of a kind begin", "a", "0:", "a*4 b c", 'a', form("bc")),
            ("another secret is not taken in", "a", "7:ab", "a b c?", 'a', Wait),
            ("nor does it take the lead of others", "a!", "7:ab", "a!900 b? c", 'c', Wait),
            ("nobody of the last generation is left", "c", "7:ab", "a!9000 c+2000", 'c', form("c")),
            ("standby took the lead and lost nobody", "c", "7:ab", "a b- c", 'c', form("ac")),
        ] {
            let found = decide(&view(leader, generation, processes), &RULES, &of(me), trusted);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn the_database_was_away() {
        for (steady, expected) in [(0, Step::Wait), (1500, Step::Wait), (1600, form("ac"))] {
            let from = Standpoint { steady: Duration::from_millis(steady), ..of('a') };
            assert_eq!(decide(&view("a", "7:abc", "a b!9000 c"), &RULES, &from, trusted), expected, "{steady}");
        }
        // An older copy of it came back: what runs is not in it.
        let from = Standpoint { known: 9, ..of('a') };
        assert_eq!(decide(&view("a", "7:abc", "a b c"), &RULES, &from, trusted), form("abc"));
    }

    #[test]
    fn a_member_that_died_says_nothing_any_more() {
        for (broken, expected) in [(0, Step::Wait), (1201, form("abc"))] {
            let from = Standpoint { broken: Duration::from_millis(broken), ..of('a') };
            assert_eq!(decide(&view("a", "7:abc", "a.7 b c.7"), &RULES, &from, trusted), expected, "{broken}");
        }
        let mut at_once = view("a", "7:ab", "a.7 b.7");
        at_once.decided_ms = 100;
        assert_eq!(decide(&at_once, &RULES, &of('a'), trusted), Step::Wait, "what breaks at once is not tried at once");
    }

    #[test]
    fn as_many_as_are_wanted() {
        for (wanted, generation, processes, expected) in [
            (1, "7:abc", "a b c", Step::Dissolve),
            (1, "7:abc", "a.7 b.7 c.7", form("a")),
            (1, "8:a", "a b c", Step::Wait),
            (3, "8:a", "a b c", Step::Dissolve),
            (2, "7:bac", "a.7 b.7 c.7", form("ba")),
            (5, "7:abc", "a b c", Step::Wait),
        ] {
            let view = View { wanted: Some(wanted), ..view("a", generation, processes) };
            assert_eq!(decide(&view, &RULES, &of('a'), trusted), expected, "{wanted} of {processes}");
        }
    }

    #[test]
    fn what_the_settings_promise_is_waited_for() {
        let rules = Rules { processes: 3, ..RULES };
        for (processes, expected) in
            [("a+9000 b+9000", Step::Wait), ("a+10000 b+9000", form("ab")), ("a+20 b+10 c+1", form("abc"))]
        {
            assert_eq!(decide(&view("a", "0:", processes), &rules, &of('a'), trusted), expected, "{processes}");
        }
    }

    #[test]
    fn everybody_knows_how_it_stands() {
        let found = |generation, processes, of, wanted| {
            let view = View { wanted, ..view("a", generation, processes) };
            standing(&view, &RULES, id(of), trusted)
        };
        assert_eq!(found("7:ab", "a b", 'b', None), Standing::Member(1));
        assert_eq!(found("7:a", "a b", 'b', Some(1)), Standing::Standby);
        for (processes, says) in [
            ("a b*4", "it has 4 workers and the others 2"),
            ("a b?", "cluster.secret"),
            ("a b", "waiting for a generation"),
            ("a", "not registered"),
        ] {
            let Standing::Waits(why) = found("7:a", processes, 'b', None) else { panic!("{processes}") };
            assert!(why.contains(says), "{why}");
        }
    }
}
