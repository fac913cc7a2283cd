//! Plane geometry for the map: convex cells, cut by straight lines.
//!
//! The city is first drawn in a flat plane where every area is convex, so that a Voronoi diagram is a few
//! cuts a cell; [`super::map`] then bends the plane into something that has grown. Lengths in metres, `x`
//! to the east and `y` to the north of the centre.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A point of the plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
}

/// A convex polygon, counter-clockwise, first point not repeated.
pub(super) type Cell = Vec<Point>;

impl Point {
    pub fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// The part of `cell` where `a·x + b·y <= c`.
pub(super) fn cut(cell: &[Point], a: f64, b: f64, c: f64) -> Cell {
    let side = |p: Point| a * p.x + b * p.y - c;
    let mut kept = Vec::with_capacity(cell.len() + 1);
    for (i, &from) in cell.iter().enumerate() {
        let to = cell[(i + 1) % cell.len()];
        let (f, t) = (side(from), side(to));
        if f <= 0.0 {
            kept.push(from);
        }
        if (f < 0.0 && t > 0.0) || (f > 0.0 && t < 0.0) {
            let share = f / (f - t);
            kept.push(Point { x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) });
        }
    }
    kept
}

/// Splits `cell` among `seeds`: to each, the part that is nearest to it.
pub(super) fn voronoi(cell: &[Point], seeds: &[Point]) -> Vec<Cell> {
    let nearest = |own: &Point| {
        seeds.iter().filter(|other| *other != own).fold(cell.to_vec(), |part, other| {
            let square = |p: &Point| p.x * p.x + p.y * p.y;
            cut(&part, other.x - own.x, other.y - own.y, (square(other) - square(own)) / 2.0)
        })
    };
    seeds.iter().map(nearest).collect()
}

/// Splits `cell` into `count` parts of similar size: each seed moves to the middle of its part, over and
/// over (Lloyd's algorithm).
pub(super) fn split_evenly(cell: &[Point], count: usize, rng: &mut ChaCha8Rng) -> Vec<Cell> {
    const ROUNDS: usize = 80;
    let mut seeds: Vec<Point> = (0..count).map(|_| anywhere(cell, rng)).collect();
    for _ in 0..ROUNDS {
        seeds = voronoi(cell, &seeds).iter().map(|part| middle(part)).collect();
    }
    voronoi(cell, &seeds)
}

/// Twice the signed area under each edge, with the edge.
fn edges(cell: &[Point]) -> impl Iterator<Item = (f64, Point, Point)> {
    let next = cell.iter().cycle().skip(1);
    cell.iter().zip(next).map(|(&a, &b)| (a.x * b.y - b.x * a.y, a, b))
}

/// Square metres.
pub(super) fn area(cell: &[Point]) -> f64 {
    edges(cell).map(|(cross, ..)| cross).sum::<f64>() / 2.0
}

/// The centre of gravity.
pub(super) fn middle(cell: &[Point]) -> Point {
    let (mut x, mut y) = (0.0, 0.0);
    for (cross, a, b) in edges(cell) {
        x += cross * (a.x + b.x);
        y += cross * (a.y + b.y);
    }
    let six = 6.0 * area(cell);
    Point { x: x / six, y: y / six }
}

/// How far inside the cell a point is: the distance to the nearest edge, negative outside.
pub(super) fn depth(cell: &[Point], p: Point) -> f64 {
    let to_edge = |(_, a, b): (f64, Point, Point)| {
        ((b.x - a.x) * (p.y - a.y) - (b.y - a.y) * (p.x - a.x)) / a.distance(b).max(1e-9)
    };
    edges(cell).map(to_edge).fold(f64::INFINITY, f64::min)
}

/// A random point of the cell, all equally likely.
pub(super) fn anywhere(cell: &[Point], rng: &mut ChaCha8Rng) -> Point {
    let bounds = |of: fn(&Point) -> f64| {
        let values = cell.iter().map(of);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x, y) = (bounds(|p| p.x), bounds(|p| p.y));
    loop {
        let p = Point { x: rng.random_range(x.0..=x.1), y: rng.random_range(y.0..=y.1) };
        if depth(cell, p) >= 0.0 {
            return p;
        }
    }
}

/// A round or oval cell.
pub(super) fn ellipse(width: f64, height: f64) -> Cell {
    const CORNERS: usize = 96;
    let corner = |i: usize| {
        let angle = i as f64 / CORNERS as f64 * std::f64::consts::TAU;
        Point { x: width / 2.0 * angle.cos(), y: height / 2.0 * angle.sin() }
    };
    (0..CORNERS).map(corner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn parts_are_similar_and_fill_the_whole() {
        let whole = ellipse(10_000.0, 8_000.0);
        let parts = split_evenly(&whole, 20, &mut ChaCha8Rng::seed_from_u64(1));
        let areas: Vec<f64> = parts.iter().map(|part| area(part)).collect();
        assert!((areas.iter().sum::<f64>() / area(&whole) - 1.0).abs() < 1e-9);
        let mean = area(&whole) / 20.0;
        assert!(areas.iter().all(|area| (0.6..1.5).contains(&(area / mean))), "{areas:?}");
        for part in &parts {
            assert!(depth(part, middle(part)) > 300.0);
        }
    }
}
