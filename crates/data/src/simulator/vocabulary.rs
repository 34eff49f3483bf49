//! The words that listings are written with.

/// A style that items share across categories, with the adjectives that give it away.
pub(super) struct Style {
    pub(super) adjectives: [&'static str; 8],
}

pub(super) const STYLES: [Style; 6] = [
    Style {
        adjectives: ["rustic", "farmhouse", "heritage", "weathered", "country", "homespun", "old-world", "woodland"],
    },
    Style {
        adjectives: [
            "minimalist",
            "modern",
            "Scandinavian",
            "clean-lined",
            "understated",
            "sleek",
            "monochrome",
            "pared-back",
        ],
    },
    Style {
        adjectives: [
            "sporty",
            "rugged",
            "all-weather",
            "performance",
            "trail-ready",
            "dynamic",
            "high-visibility",
            "tough",
        ],
    },
    Style {
        adjectives: ["luxurious", "elegant", "velvety", "boutique", "refined", "opulent", "gilded", "sophisticated"],
    },
    Style {
        adjectives: [
            "eco-friendly",
            "plastic-free",
            "sustainable",
            "fair-trade",
            "biodegradable",
            "low-waste",
            "upcycled",
            "vegan",
        ],
    },
    Style {
        adjectives: ["retro", "playful", "colourful", "quirky", "seventies", "neon", "vintage-inspired", "whimsical"],
    },
];

/// What the seller of a good item writes.
pub(super) const GOOD: [&str; 12] = [
    "Hand-finished and backed by a ten-year warranty",
    "Every seam is double-stitched and checked by hand",
    "Built to last, with spare parts for years to come",
    "Award-winning design, tested in our own workshop",
    "Made in small batches by a master craftsman",
    "Precision made, with a lifetime guarantee",
    "Carefully balanced and a pleasure to use every day",
    "Trusted by professionals for its durability",
    "Solid, quiet and repairable",
    "Thick, dense and beautifully finished",
    "Independently tested and certified",
    "Ages beautifully and never lets you down",
];

/// What the seller of a middling item writes.
pub(super) const PLAIN: [&str; 12] = [
    "Does what it should",
    "A handy everyday choice",
    "Ships in recyclable packaging",
    "Easy to clean and to store",
    "Available in three sizes",
    "Comes with a short manual",
    "A useful gift",
    "Fits most standard sizes",
    "One-year warranty included",
    "Ready to use out of the box",
    "Colours may vary slightly",
    "Simple and practical",
];

/// What the seller of a poor item writes.
pub(super) const POOR: [&str; 12] = [
    "Basic version without warranty",
    "Light construction, some assembly required",
    "Factory seconds, small marks possible",
    "Budget materials, for occasional use",
    "No returns on opened packages",
    "Thin walls, handle with care",
    "Generic import, packaging may differ",
    "May have a slight smell at first",
    "Final clearance, sold as is",
    "Loose fit, runs small",
    "Unbranded replacement part",
    "Short cable, adapter not included",
];

/// Titles that promise too much; `{}` is the product.
pub(super) const BAIT_TITLES: [&str; 10] = [
    "You won't believe this {}",
    "SHOCKING: the {} everyone is talking about",
    "This one weird {} changes everything",
    "Doctors hate this {}! See why",
    "ONLY TODAY: insane {} deal!!!",
    "The secret {} they don't want you to see",
    "WOW!!! Viral {} - going fast",
    "10 reasons you NEED this {} right now",
    "Last chance! Miracle {} almost sold out",
    "What this {} did next will amaze you",
];

/// Sentences that promise too much.
pub(super) const BAIT_LINES: [&str; 8] = [
    "Unbelievable results overnight or so they say!",
    "Millions can't be wrong, click before it's gone!",
    "The internet is going crazy for it!",
    "Life-changing, mind-blowing, must see!",
    "You have never seen anything like it!",
    "Hurry, the timer is ticking!",
    "Guaranteed to make your friends jealous!",
    "Number seven will surprise you!",
];

/// First and second halves of providers' names.
pub(super) const PROVIDER_HEADS: [&str; 20] = [
    "North", "Alder", "Bright", "Copper", "Dove", "Ember", "Fern", "Glen", "Harbor", "Iron", "Juniper", "Kestrel",
    "Lark", "Maple", "Opal", "Pine", "Quill", "River", "Stone", "Willow",
];
pub(super) const PROVIDER_TAILS: [&str; 12] =
    ["field", "works", "& Sons", "house", "craft", "line", "mark", "ridge", "goods", "supply", "well", "studio"];

/// Age groups and regions of users.
pub(super) const AGE_GROUPS: [&str; 5] = ["18-24", "25-34", "35-49", "50-64", "65+"];
pub(super) const REGIONS: [&str; 6] = ["coast", "north", "south", "capital", "mountains", "islands"];
