//! Names for quartiers and stations: the kind of thing that is written on street signs.

use std::collections::HashSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

const QUARTIERS: [&str; 80] = [
    "Saint-Aubin-l'Écluse",
    "Halles Neuves",
    "Palais",
    "Place des Tanneurs",
    "Bonne-Fontaine",
    "Mail",
    "Petit-Pont",
    "Marché-aux-Grains",
    "Arts-et-Forges",
    "Enfants-Bleus",
    "Archives",
    "Sainte-Avoie",
    "Saint-Merri-le-Vieux",
    "Saint-Gervais-des-Prés",
    "Arsenal-de-l'Île",
    "Notre-Dame-du-Quai",
    "Saint-Victor-la-Tour",
    "Jardin-des-Simples",
    "Val-de-Seille",
    "Sorbiers",
    "Monnaie",
    "Odéon-Vert",
    "Notre-Dame-des-Vignes",
    "Saint-Germain-la-Rive",
    "Saint-Thomas",
    "Invalides-Nord",
    "École-de-Mars",
    "Gros-Tilleul",
    "Champs-Clos",
    "Faubourg-du-Coq",
    "Madeleine-aux-Bois",
    "Europe",
    "Saint-Georges",
    "Chaussée-d'Aubry",
    "Faubourg-Marchand",
    "Rochebrune",
    "Saint-Vincent-du-Mail",
    "Porte-Saint-Clair",
    "Porte-Saint-Martial",
    "Hôpital-Saint-Roch",
    "Folie-Mercier",
    "Saint-Ambroise",
    "Roquebelle",
    "Sainte-Marguerite",
    "Bel-Air-le-Haut",
    "Picquart",
    "Berges",
    "Quinze-Ponts",
    "Salpêtrière-Basse",
    "Gare-du-Levant",
    "Maison-Grise",
    "Croule-Barbe",
    "Montplaisir",
    "Parc-de-Montjoie",
    "Petit-Montval",
    "Plaisance-du-Sud",
    "Saint-Lambert",
    "Nécropole",
    "Grenelles",
    "Javelles",
    "Auteuil-les-Roses",
    "Muettes",
    "Porte-Dauphin",
    "Chaillou",
    "Ternois",
    "Plaine-aux-Moines",
    "Batignons",
    "Épinards",
    "Grandes-Carrières",
    "Clignancœur",
    "Goutte-d'Argent",
    "La Chapelle-Haute",
    "La Villette-aux-Bœufs",
    "Pont-de-Flandres",
    "Amérique",
    "Combats",
    "Belleval",
    "Saint-Fargeot",
    "Père-Lachaume",
    "Charonnes",
];

const PEOPLE: [&str; 96] = [
    "Adèle Marchand",
    "Amiral Keradec",
    "Anatole Périer",
    "Antoine Vasseur",
    "Aristide Blanchard",
    "Armand Lescure",
    "Augustine Morel",
    "Baptiste Delorme",
    "Barthélemy",
    "Beaurepaire",
    "Bellanger",
    "Berthe Vallier",
    "Blanche Auvray",
    "Boisrobert",
    "Cardinal Aubrac",
    "Camille Desroches",
    "Cassini",
    "Célestin Roux",
    "Chanzy",
    "Charles Lindet",
    "Châtelain",
    "Claire Fontanel",
    "Clément Ferrand",
    "Colonel Rivaud",
    "Constance Pascal",
    "Corvisart",
    "Daguerre",
    "Delaunay",
    "Denis Poirier",
    "Docteur Finel",
    "Dombasle",
    "Edgar Quintin",
    "Édouard Vallin",
    "Élise Renaudin",
    "Émile Charpentier",
    "Ernest Gaillard",
    "Étienne Marceau",
    "Eugène Sauvage",
    "Félicien Rops",
    "Flora Trinquet",
    "François Bonnard",
    "Gabrielle Aumont",
    "Général Brunel",
    "Georges Lardennois",
    "Germaine Tillon",
    "Guy Moreau",
    "Hélène Brisset",
    "Henri Martineau",
    "Hippolyte Maindreau",
    "Honoré Chevalier",
    "Jacques Ibarra",
    "Jean Corentin",
    "Jeanne Hachard",
    "Joseph Dijon",
    "Jules Ferrière",
    "Juliette Dodun",
    "Lacépède",
    "Lamarck",
    "Léon Frotin",
    "Léontine",
    "Louis Blériaud",
    "Louise Thuliez",
    "Lucien Sampaix",
    "Madame de Sancerre",
    "Marcel Aymar",
    "Maréchal Duroc",
    "Marguerite Boucicard",
    "Marie Laurent",
    "Mathurin Régnaud",
    "Maurice Ripoche",
    "Michel Bizet",
    "Mirbel",
    "Montgolfier",
    "Nathalie Lemoine",
    "Octave Gréard",
    "Olympe",
    "Oscar Roty",
    "Parmentier",
    "Paul Valin",
    "Pauline Roland",
    "Philippe Auguste",
    "Pierre Levée",
    "Professeur Hyacinthe",
    "Quinault",
    "Raymond Losserand",
    "René Boulanger",
    "Robert Lindon",
    "Rosa Bonnet",
    "Sébastien Gryphe",
    "Simone Michel",
    "Suzanne Lenglart",
    "Théodore Judlin",
    "Turbigo",
    "Valentin Abeille",
    "Victor Massard",
    "Yvonne Le Tac",
];

const PLACES: [&str; 28] = [
    "Abbé-Grégoire",
    "Abreuvoir",
    "Bergère",
    "Boulets",
    "Canal",
    "Capucines",
    "Cordelières",
    "Eaux-Vives",
    "Écluses",
    "Fontaine",
    "Gare",
    "Grands-Augustins",
    "Jeûneurs",
    "Lilas",
    "Marché",
    "Martyrs",
    "Moulin-Vert",
    "Orfèvres",
    "Passerelle",
    "Petites-Écuries",
    "Poste",
    "Quatre-Vents",
    "Récollets",
    "Remparts",
    "Trois-Frères",
    "Université",
    "Vieille-Lanterne",
    "Vignoles",
];

const KINDS: [&str; 12] =
    ["Place", "Square", "Quai", "Porte", "Gare", "Mairie", "Parc", "Pont", "Lycée", "Hôpital", "Cité", "Théâtre"];

/// As many distinct names of quartiers.
pub(super) fn quartiers(count: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut names: Vec<String> = QUARTIERS.iter().take(count).map(|name| (*name).to_owned()).collect();
    names.shuffle(rng);
    names
}

/// Station names, none twice: mostly two streets that meet (`Jules Ferrière - Lilas`), as the real ones.
pub(super) struct StationNames {
    given: HashSet<String>,
}

impl StationNames {
    pub fn new() -> Self {
        Self { given: HashSet::new() }
    }

    pub fn next(&mut self, rng: &mut ChaCha8Rng) -> String {
        let pick = |list: &[&'static str], rng: &mut ChaCha8Rng| list[rng.random_range(0..list.len())];
        let first = pick(&PEOPLE, rng);
        let second = if rng.random_bool(0.4) { pick(&PLACES, rng) } else { pick(&PEOPLE, rng) };
        let name = match rng.random_range(0..10) {
            _ if first == second => first.to_owned(),
            0 => format!("{} {first}", pick(&KINDS, rng)),
            1 => format!("{} des {}", pick(&KINDS, rng), pick(&PLACES, rng)),
            _ => format!("{first} - {second}"),
        };
        // Large cities run out of pairs; theirs are numbered, as with real stations of one square.
        let mut unique = name.clone();
        let mut number = 2;
        while !self.given.insert(unique.clone()) {
            unique = format!("{name} {number}");
            number += 1;
        }
        unique
    }
}
