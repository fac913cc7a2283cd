//! The events: of every 50, the first is a person, three are auctions, the rest bids.
//!
//! Ids count up from 1000. A reference goes back as far as somebody is active or an auction in flight, and up to ten
//! ids ahead, to those that come later. Most references are hot: every hundredth person sells for the 100 people
//! from there on, the one after bids for them, and every hundredth auction draws their bids.

use std::io::Write;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use velib_operators::Time;

use super::columns::{Auctions, Bids, People, Texts};
use crate::source::Snapshot;

/// The first event's time, as in Beam: 2015-07-15T00:00:00Z, in milliseconds.
const BEGIN_MS: u64 = 1_436_918_400_000;
/// Of so many events
const CYCLE: u64 = 50;
/// these are people,
const PEOPLE: u64 = 1;
/// and these auctions.
const AUCTIONS: u64 = 3;
/// Ids of people and auctions begin here, so that even a short stream has what queries ask for.
const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// References go so many ids ahead.
const LEAD: u64 = 10;
/// Of so many people or auctions one is hot.
const HOT_OF: u64 = 100;
/// Channels beside the hot ones.
const CHANNELS: usize = 10_000;
/// Rows have these sizes on average, counting 8 bytes a number.
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;
/// Letters that texts of no meaning are cut from: few enough to stay in the cache.
const LETTERS: usize = 1 << 16;
/// The shortest text.
const SHORTEST: u32 = 3;

const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// What determines a stream.
#[derive(Clone, Debug)]
pub(super) struct House {
    pub(super) events: u64,
    pub(super) seed: u64,
    /// Events in a second of event time.
    pub(super) rate: u64,
    /// People who bid and sell: the last so many.
    pub(super) active_people: u64,
    /// Auctions that are bid for: the last so many.
    pub(super) in_flight_auctions: u64,
    /// All but one of so many bids go to a hot auction,
    pub(super) hot_auction_ratio: u64,
    /// are by a hot bidder;
    pub(super) hot_bidder_ratio: u64,
    /// all but one of so many auctions are by a hot seller.
    pub(super) hot_seller_ratio: u64,
}

impl House {
    /// When an event happens, in milliseconds.
    fn time_ms(&self, event: u64) -> Time {
        BEGIN_MS + (u128::from(event) * 1_000 / u128::from(self.rate)) as u64
    }

    /// The first event that does not happen before `time`.
    fn first_at(&self, time: Time) -> u64 {
        (u128::from(time - BEGIN_MS) * u128::from(self.rate)).div_ceil(1_000) as u64
    }
}

/// The number of the last person, counted from 0: there is one in a cycle, and it comes first.
fn last_person(event: u64) -> u64 {
    event / CYCLE
}

/// The number of the last auction, counted from 0; of an event that is not before the first.
fn last_auction(event: u64) -> u64 {
    event / CYCLE * AUCTIONS + (event % CYCLE - PEOPLE).min(AUCTIONS - 1)
}

/// Generates a stream from its beginning.
pub(super) struct Generator {
    house: House,
    rng: ChaCha8Rng,
    letters: Vec<u8>,
    hot_urls: [Vec<u8>; 4],
    channels: Texts,
    urls: Texts,
    /// The next event.
    next: u64,
    people: People,
    auctions: Auctions,
    bids: Bids,
}

impl Generator {
    pub(super) fn new(house: House) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(house.seed);
        let mut letters = vec![0; LETTERS];
        rng.fill_bytes(&mut letters);
        letters.iter_mut().for_each(|byte| *byte = b'a' + (u16::from(*byte) * 26 / 256) as u8);
        let hot_urls = [(); 4].map(|()| {
            let mut text = vec![];
            url(&mut text, &mut rng);
            text
        });
        let (mut channels, mut urls) = (Texts::default(), Texts::default());
        for channel in 0..CHANNELS {
            channels.push(format!("channel-{channel}").as_bytes());
            url(urls.open(), &mut rng);
            if rng.random_range(0..10_u32) > 0 {
                let id = (channel as i32).reverse_bits().unsigned_abs();
                write(urls.open(), format_args!("&channel_id={id}"));
            }
            urls.end();
        }
        let (people, auctions, bids) = Default::default();
        Generator { house, rng, letters, hot_urls, channels, urls, next: 0, people, auctions, bids }
    }

    /// The events of so much event time, counted from its beginning in whole steps, as a snapshot at the time of the
    /// last of them. Steps without events are passed over. None: there are no more.
    pub(super) fn advance(&mut self, step_ms: u64) -> Option<Snapshot> {
        if self.next == self.house.events {
            return None;
        }
        let step = (self.house.time_ms(self.next) - BEGIN_MS) / step_ms;
        let end = self.house.first_at(BEGIN_MS + (step + 1) * step_ms).min(self.house.events);
        for event in self.next..end {
            match event % CYCLE {
                place if place < PEOPLE => self.person(event),
                place if place < PEOPLE + AUCTIONS => self.auction(event),
                _ => self.bid(event),
            }
        }
        self.next = end;
        let tables = vec![self.people.finish(), self.auctions.finish(), self.bids.finish()];
        Some(Snapshot { time: self.house.time_ms(end - 1), tables })
    }

    fn person(&mut self, event: u64) {
        let (rng, to) = (&mut self.rng, &mut self.people);
        to.id.push((FIRST_ID + last_person(event)) as i64);
        to.date_time.push(1_000 * self.house.time_ms(event) as i64);
        write(to.name.open(), format_args!("{} {}", one(&FIRST_NAMES, rng), one(&LAST_NAMES, rng)));
        let mut bytes = 8 + to.name.end();
        word(to.email_address.open(), rng, 7, b' ');
        to.email_address.open().push(b'@');
        word(to.email_address.open(), rng, 5, b' ');
        to.email_address.open().extend_from_slice(b".com");
        bytes += to.email_address.end();
        let [a, b, c, d] = [(); 4].map(|()| rng.random_range(0..10_000_u32));
        write(to.credit_card.open(), format_args!("{a:04} {b:04} {c:04} {d:04}"));
        bytes += to.credit_card.end();
        let (city, state) = (one(&CITIES, rng), one(&STATES, rng));
        to.city.push(city.as_bytes());
        to.state.push(state.as_bytes());
        bytes += city.len() + state.len();
        to.extra.push(extra(&self.letters, rng, PERSON_BYTES.saturating_sub(bytes)));
    }

    fn auction(&mut self, event: u64) {
        let (house, rng, to) = (&self.house, &mut self.rng, &mut self.auctions);
        to.id.push((FIRST_ID + last_auction(event)) as i64);
        let seller = match rng.random_range(0..house.hot_seller_ratio) {
            0 => any_person(house, event, rng),
            _ => last_person(event) / HOT_OF * HOT_OF,
        };
        to.seller.push((FIRST_ID + seller) as i64);
        to.category.push((FIRST_CATEGORY + rng.random_range(0..CATEGORIES)) as i64);
        let initial = price(rng);
        to.initial_bid.push(initial);
        to.reserve.push(initial + price(rng));
        // An auction lasts, on average, until as many others have begun as are in flight.
        let now = house.time_ms(event);
        let horizon = house.time_ms(event + house.in_flight_auctions * CYCLE / AUCTIONS) - now;
        let expires = now + 1 + rng.random_range(0..(2 * horizon).max(1));
        to.date_time.push(1_000 * now as i64);
        to.expires.push(1_000 * expires as i64);
        word(to.item_name.open(), rng, 20, b' ');
        word(to.description.open(), rng, 100, b' ');
        let bytes = 6 * 8 + to.item_name.end() + to.description.end();
        to.extra.push(extra(&self.letters, rng, AUCTION_BYTES.saturating_sub(bytes)));
    }

    fn bid(&mut self, event: u64) {
        let (house, rng, to) = (&self.house, &mut self.rng, &mut self.bids);
        let auction = match rng.random_range(0..house.hot_auction_ratio) {
            0 => any_auction(house, event, rng),
            _ => last_auction(event) / HOT_OF * HOT_OF,
        };
        let bidder = match rng.random_range(0..house.hot_bidder_ratio) {
            0 => any_person(house, event, rng),
            // Not the hot seller.
            _ => last_person(event) / HOT_OF * HOT_OF + 1,
        };
        to.auction.push((FIRST_ID + auction) as i64);
        to.bidder.push((FIRST_ID + bidder) as i64);
        to.price.push(price(rng));
        if rng.random() {
            let hot = rng.random_range(0..HOT_CHANNELS.len());
            to.channel.push(HOT_CHANNELS[hot].as_bytes());
            to.url.push(&self.hot_urls[hot]);
        } else {
            let cold = rng.random_range(0..CHANNELS);
            to.channel.push(self.channels.get(cold));
            to.url.push(self.urls.get(cold));
        }
        to.date_time.push(1_000 * house.time_ms(event) as i64);
        to.extra.push(extra(&self.letters, rng, BID_BYTES - 4 * 8));
    }
}

/// Somebody who is active, or will come soon.
fn any_person(house: &House, event: u64, rng: &mut ChaCha8Rng) -> u64 {
    let people = last_person(event) + 1;
    let active = people.min(house.active_people);
    people - active + rng.random_range(0..active + LEAD)
}

/// An auction in flight, or one that will begin soon.
fn any_auction(house: &House, event: u64, rng: &mut ChaCha8Rng) -> u64 {
    let last = last_auction(event);
    let first = last.saturating_sub(house.in_flight_auctions);
    first + rng.random_range(0..last - first + 1 + LEAD)
}

/// Cents: as many from 1 to 10 dollars as from 100,000 to a million.
fn price(rng: &mut ChaCha8Rng) -> i64 {
    (100.0 * 10_f64.powf(6.0 * rng.random::<f64>())).round() as i64
}

fn one<'a>(of: &[&'a str], rng: &mut ChaCha8Rng) -> &'a str {
    of[rng.random_range(0..of.len())]
}

/// A text of fewer than `longest` letters, with `special` between them now and then, though no blanks at its ends.
fn word(to: &mut Vec<u8>, rng: &mut ChaCha8Rng, longest: u32, special: u8) {
    let start = to.len();
    for _ in 0..SHORTEST + rng.random_range(0..longest - SHORTEST) {
        let drawn = rng.random_range(0..13 * 26_u32);
        let letter = if drawn < 26 { special } else { b'a' + (drawn % 26) as u8 };
        if letter != b' ' || to.len() > start {
            to.push(letter);
        }
    }
    to.truncate(start + to[start..].trim_ascii_end().len());
}

fn url(to: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    to.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        word(to, rng, 5, b'_');
        to.push(b'/');
    }
    to.extend_from_slice(b"item.htm?query=1");
}

/// Letters that bring a row to its size: of `bytes` more or less a fifth.
fn extra<'a>(letters: &'a [u8], rng: &mut ChaCha8Rng, bytes: usize) -> &'a [u8] {
    let spread = (bytes as f64 * 0.2).round() as usize;
    let length = bytes - spread + rng.random_range(0..(2 * spread).max(1));
    let start = rng.random_range(0..letters.len() - length);
    &letters[start..start + length]
}

fn write(to: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    to.write_fmt(text).expect("memory takes all that is written");
}
