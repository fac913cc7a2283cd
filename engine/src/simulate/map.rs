//! The map: a round city on a river, in twenty arrondissements of four quartiers each.
//!
//! Drawn flat (see [`super::geometry`]) and then bent, edges and stations alike: the middle is drawn
//! together, as old centres are, the river and the streets along it get their bow, and nothing stays
//! quite straight. The bending is gentle enough to be one to one, so neighbours stay neighbours and share
//! their borders point for point.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::geometry::{Cell, Point, area, cut, depth, ellipse, middle, split_evenly};
use super::names;

/// Where the middle of the city is: longitude, latitude.
pub(super) const CENTRE: [f64; 2] = [2.3470, 48.8590];
/// Across, in metres, before bending.
const WIDTH: f64 = 11_500.0;
const HEIGHT: f64 = 9_600.0;
/// How far south of the centre the river is, and how wide.
const RIVER_Y: f64 = -350.0;
const RIVER_WIDTH: f64 = 190.0;
const ARRONDISSEMENTS: usize = 20;
const QUARTIERS_EACH: usize = 4;
/// The arrondissements in the first turn of the spiral.
const INNER: usize = 7;
/// Borders bend between points at most this far apart.
const BORDER_STEP: f64 = 120.0;

/// A quarter of the city.
#[derive(Clone, Debug)]
pub(super) struct Quartier {
    /// From 1, in the order of the arrondissements.
    pub id: u32,
    pub name: String,
    /// From 1, in a spiral from the centre.
    pub arrondissement: u32,
    /// Its shape in the flat plane.
    pub cell: Cell,
}

/// The city without its stations.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub quartiers: Vec<Quartier>,
    /// How this city is bent.
    phases: [f64; 4],
}

impl Map {
    pub fn new(rng: &mut ChaCha8Rng) -> Self {
        let phases = [0; 4].map(|_| rng.random_range(0.0..std::f64::consts::TAU));
        let names = names::quartiers(ARRONDISSEMENTS * QUARTIERS_EACH, rng);
        let mut quartiers = Vec::new();
        for (index, cell) in spiral(arrondissements(rng)).into_iter().enumerate() {
            let mut parts = split_evenly(&cell, QUARTIERS_EACH, rng);
            let centre = middle(&cell);
            parts.sort_by(|a, b| clockwise(centre, middle(a)).total_cmp(&clockwise(centre, middle(b))));
            for cell in parts {
                let id = quartiers.len();
                let arrondissement = index as u32 + 1;
                quartiers.push(Quartier { id: id as u32 + 1, name: names[id].clone(), arrondissement, cell });
            }
        }
        Self { quartiers, phases }
    }

    /// Where a point of the flat plane is on the globe: longitude, latitude.
    pub fn place(&self, p: Point) -> [f64; 2] {
        const METRES_A_DEGREE: f64 = 111_195.0;
        let bent = self.bend(p);
        let shrink = CENTRE[1].to_radians().cos();
        let round = |degrees: f64| (degrees * 1e6).round() / 1e6;
        [round(CENTRE[0] + bent.x / METRES_A_DEGREE / shrink), round(CENTRE[1] + bent.y / METRES_A_DEGREE)]
    }

    fn bend(&self, p: Point) -> Point {
        // Smaller blocks in the middle.
        let far = (p.x / WIDTH).hypot(p.y / HEIGHT) * 2.0;
        let (x, y) = (p.x * (0.8 + 0.2 * far), p.y * (0.8 + 0.2 * far));
        // The river comes from the south-east, rises to the centre and leaves to the south-west.
        let bow = 650.0 - 1_500.0 * (x / WIDTH * 2.0 + 0.1).powi(2) + 260.0 * (x / 1_300.0 + self.phases[0]).sin();
        let y = y + bow * (-((y - RIVER_Y) / 3_200.0).powi(2)).exp();
        let [_, a, b, c] = self.phases;
        Point {
            x: x + 110.0 * (y / 800.0 + a).sin() + 60.0 * (x / 450.0 + b).sin(),
            y: y + 90.0 * (x / 700.0 + c).sin() + 50.0 * (y / 400.0 + a).sin(),
        }
    }

    /// The quartiers as GeoJSON: `c_qu` (id), `l_qu` (name), `c_ar` (arrondissement).
    pub fn geojson(&self) -> String {
        let corners: Vec<Point> = self.quartiers.iter().flat_map(|quartier| quartier.cell.iter().copied()).collect();
        let feature = |quartier: &Quartier| -> Value {
            let ring: Vec<[f64; 2]> = border(&quartier.cell, &corners).iter().map(|p| self.place(*p)).collect();
            json!({
                "type": "Feature",
                "properties": {
                    "c_qu": quartier.id,
                    "l_qu": quartier.name,
                    "c_ar": quartier.arrondissement,
                },
                "geometry": { "type": "Polygon", "coordinates": [ring] },
            })
        };
        let features: Vec<Value> = self.quartiers.iter().map(feature).collect();
        json!({ "type": "FeatureCollection", "features": features }).to_string()
    }
}

/// Both banks, each split evenly, with as many parts as its share of the area.
fn arrondissements(rng: &mut ChaCha8Rng) -> Vec<Cell> {
    let city = ellipse(WIDTH, HEIGHT);
    let north = cut(&city, 0.0, -1.0, -(RIVER_Y + RIVER_WIDTH / 2.0));
    let south = cut(&city, 0.0, 1.0, RIVER_Y - RIVER_WIDTH / 2.0);
    let share = area(&north) / (area(&north) + area(&south));
    let northern = (share * ARRONDISSEMENTS as f64).round() as usize;
    let mut cells = split_evenly(&north, northern, rng);
    cells.extend(split_evenly(&south, ARRONDISSEMENTS - northern, rng));
    cells
}

/// Puts the cells in the order of a snail's shell: the inner ones clockwise, then the outer ones.
fn spiral(mut cells: Vec<Cell>) -> Vec<Cell> {
    let heart = Point { x: 0.0, y: RIVER_Y };
    let far = |cell: &Cell| (middle(cell).x / WIDTH).hypot((middle(cell).y - RIVER_Y) / HEIGHT);
    cells.sort_by(|a, b| far(a).total_cmp(&far(b)));
    let turn = |a: &Cell, b: &Cell| clockwise(heart, middle(a)).total_cmp(&clockwise(heart, middle(b)));
    let (inner, outer) = cells.split_at_mut(INNER);
    inner.sort_by(turn);
    outer.sort_by(turn);
    cells
}

/// The direction from `centre` to `p`: clockwise, growing from the west.
fn clockwise(centre: Point, p: Point) -> f64 {
    let angle = std::f64::consts::PI - (p.y - centre.y).atan2(p.x - centre.x);
    angle.rem_euclid(std::f64::consts::TAU)
}

/// The cell's border, closed, with points enough to bend: the corners of neighbours that lie on it, and
/// steps between, cut the same way from both sides.
fn border(cell: &[Point], corners: &[Point]) -> Vec<Point> {
    const SAME: f64 = 1e-3;
    let mut ring = Vec::new();
    for (i, &from) in cell.iter().enumerate() {
        let to = cell[(i + 1) % cell.len()];
        let on_edge = |p: &&Point| {
            let detour = from.distance(**p) + p.distance(to) - from.distance(to);
            detour < SAME * SAME && from.distance(**p) > SAME && p.distance(to) > SAME
        };
        let mut stops: Vec<Point> = corners.iter().filter(on_edge).copied().collect();
        stops.sort_by(|a, b| from.distance(*a).total_cmp(&from.distance(*b)));
        stops.dedup_by(|a, b| a.distance(*b) < SAME);
        stops.push(to);
        let mut here = from;
        for stop in stops {
            let steps = (here.distance(stop) / BORDER_STEP).ceil().max(1.0);
            for step in 0..steps as u32 {
                let share = f64::from(step) / steps;
                ring.push(Point { x: here.x + share * (stop.x - here.x), y: here.y + share * (stop.y - here.y) });
            }
            here = stop;
        }
    }
    ring.push(cell[0]);
    ring
}

/// Where stations can be outside the city: a random place in the ring of suburbs, off the river.
pub(super) fn suburb(rng: &mut ChaCha8Rng) -> Point {
    loop {
        let p = Point { x: rng.random_range(-0.7..0.7) * WIDTH, y: rng.random_range(-0.7..0.7) * HEIGHT };
        let far = (p.x / WIDTH).hypot(p.y / HEIGHT) * 2.0;
        if (1.04..1.35).contains(&far) && (p.y - RIVER_Y).abs() > RIVER_WIDTH {
            return p;
        }
    }
}

/// A random place well inside a quartier.
pub(super) fn inside(quartier: &Quartier, rng: &mut ChaCha8Rng) -> Point {
    const FROM_BORDER: f64 = 20.0;
    loop {
        let p = super::geometry::anywhere(&quartier.cell, rng);
        if depth(&quartier.cell, p) > FROM_BORDER {
            return p;
        }
    }
}
