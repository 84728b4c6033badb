//! A seeded generator of realistic RudderStack events.
//!
//! Mix: 55 % track, 20 % identify, 12 % page, 6 % screen, 4 % group, 1 % alias, 2 % device events; about
//! 1.3 kB each. People are drawn with probability ~ 1/rank, so that a few are very active; about 30 % of
//! the web traffic is anonymous; 12 % of the people refused the marketing category. The same seed gives
//! the same bytes.

use fastrand::Rng;

const WORDS: &[&str] = &[
    "amber", "birch", "cobalt", "delta", "ember", "fjord", "granite", "harbor", "indigo",
    "juniper", "kelp", "linen", "maple", "nectar", "ochre", "pebble", "quartz", "raven", "saffron",
    "tundra",
];
const CATEGORIES: &[&str] = &["apparel", "home", "outdoor", "audio", "kitchen", "books", "toys"];
const EVENTS: &[&str] = &[
    "Product Viewed",
    "Product Added",
    "Cart Viewed",
    "Checkout Started",
    "Order Completed",
    "Product List Viewed",
    "Search Performed",
    "Feature Used",
    "Video Played",
    "Invite Sent",
    "Coupon Applied",
    "Subscription Renewed",
    "Form Submitted",
    "Button Clicked",
    "Signed In",
    "Trial Started",
];
const PAGES: &[&str] =
    &["Home", "Pricing", "Docs", "Blog", "Product", "Category", "Checkout", "Account"];
const SCREENS: &[&str] =
    &["Home", "Feed", "Profile", "Settings", "Cart", "Product Detail", "Notifications"];
const PLANS: &[&str] = &["free", "free", "starter", "pro", "team", "enterprise"];
const NAMES: &[&str] =
    &["Ada", "Bo", "Chen", "Elif", "Gita", "Åsa", "Łukasz", "Émile", "美咲", "Дмитрий"];
const CITIES: &[(&str, &str, &str)] = &[
    ("Oslo", "NO", "nb-NO"),
    ("Berlin", "DE", "de-DE"),
    ("São Paulo", "BR", "pt-BR"),
    ("Osaka", "JP", "ja-JP"),
];
const AGENT: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                     Version/17.4 Safari/605.1.15";
const USERS: f64 = 50_000.0;

/// A JSON object that keeps the order of its members, as SDKs write them.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn raw(mut self, name: &str, json: impl std::fmt::Display) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&format!("\"{name}\":{json}"));
        self
    }

    fn text(self, name: &str, text: impl std::fmt::Display) -> Self {
        let json = serde_json::Value::from(text.to_string());
        self.raw(name, json)
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

struct Person {
    number: u64,
    user_id: String,
    anonymous_id: String,
    name: &'static str,
    email: String,
    city: (&'static str, &'static str, &'static str),
    plan: &'static str,
    mobile: bool,
    ios: bool,
    company: u64,
    denied: bool,
    token: String,
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn uuid(rng: &mut Rng) -> String {
    let n = rng.u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        n as u32,
        (n >> 32) as u16,
        (n >> 48) as u16 & 0xfff,
        (n >> 64) as u16 & 0xfff,
        (n >> 80) as u64
    )
}

fn iso(ms: u64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Person {
    fn new(seed: u64, number: u64) -> Self {
        let rng = &mut Rng::with_seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        let ios = rng.f64() < 0.55;
        Self {
            number,
            user_id: if rng.bool() {
                format!("usr_{:08x}", rng.u32(..))
            } else {
                (100_000 + number).to_string()
            },
            anonymous_id: uuid(rng),
            name: pick(rng, NAMES),
            email: format!("user{number}@{}.example.org", pick(rng, WORDS)),
            city: pick(rng, CITIES),
            plan: pick(rng, PLANS),
            mobile: rng.f64() < 0.35,
            ios,
            company: 1 + 300f64.powf(rng.f64()) as u64,
            denied: rng.f64() < 0.12,
            token: format!("{:032x}{:032x}", rng.u128(..), rng.u128(..)),
        }
    }
}

fn product(rng: &mut Rng) -> Object {
    let word = pick(rng, WORDS);
    Object::new()
        .text("product_id", format!("p-{:05}", rng.u32(..4000)))
        .text("sku", format!("{}-{:03}", word[..3].to_uppercase(), rng.u32(..1000)))
        .text("name", format!("{word} {}", pick(rng, WORDS)))
        .text("category", pick(rng, CATEGORIES))
        .raw("price", f64::from(rng.u32(100..20_000)) / 100.0)
        .raw("quantity", 1 + rng.u32(..3))
}

fn properties(rng: &mut Rng, event: &str, person: &Person) -> String {
    match event {
        "Product Viewed" | "Product Added" => product(rng)
            .text("currency", "EUR")
            .raw("position", rng.u32(..40))
            .text("variant", pick(rng, WORDS))
            .text("brand", pick(rng, WORDS))
            .end(),
        "Cart Viewed" | "Checkout Started" | "Order Completed" => {
            let items: Vec<_> = (0..1 + rng.usize(..4)).map(|_| product(rng).end()).collect();
            let value = f64::from(rng.u32(500..90_000)) / 100.0;
            let cart = Object::new()
                .raw("products", format!("[{}]", items.join(",")))
                .text("currency", "EUR")
                .raw("value", value)
                .text("cart_id", format!("c-{:06x}", rng.u32(..0xff_ffff)));
            if event == "Order Completed" {
                cart.text("order_id", format!("o-{:08}", rng.u32(..100_000_000)))
                    .raw("total", value)
                    .raw("shipping", 4.9)
                    .raw("coupon", if rng.bool() { "null" } else { "\"WELCOME10\"" })
                    .end()
            } else {
                cart.end()
            }
        }
        _ => Object::new()
            .text("feature", pick(rng, WORDS))
            .text("source", pick(rng, &["nav", "email", "widget", "push"]))
            .raw("duration_ms", rng.u32(20..90_000))
            .raw("success", rng.f64() < 0.95)
            .text("plan", person.plan)
            .raw(
                "experiment",
                Object::new()
                    .text("id", format!("exp_{}", rng.u32(..30)))
                    .text("variant", "A")
                    .end(),
            )
            .raw("tags", format!("[\"{}\",\"{}\"]", pick(rng, WORDS), pick(rng, WORDS)))
            .end(),
    }
}

fn page_object(rng: &mut Rng) -> Object {
    let path = format!("/{}/{}", pick(rng, WORDS), pick(rng, WORDS));
    Object::new()
        .text("path", &path)
        .text("referrer", pick(rng, &["$direct", "https://search.example.net/"]))
        .text("referring_domain", "")
        .text("search", "")
        .text("title", format!("{} | Fjord", pick(rng, WORDS)))
        .text("url", format!("https://shop.example.com{path}"))
        .text("tab_url", format!("https://shop.example.com{path}"))
        .text("initial_referrer", "$direct")
}

fn context(
    rng: &mut Rng,
    person: &Person,
    mobile: bool,
    server: bool,
    traits: Option<&str>,
    page: &str,
) -> String {
    let mut c = Object::new();
    if server {
        c = c
            .raw(
                "library",
                Object::new()
                    .text("name", "@rudderstack/rudder-sdk-node")
                    .text("version", "3.0.13")
                    .end(),
            )
            .text("locale", person.city.2)
            .text("ip", format!("203.0.113.{}", person.number % 250));
    } else if mobile {
        let (os, version) = if person.ios { ("iOS", "17.4.1") } else { ("Android", "14") };
        c = c
            .raw(
                "app",
                Object::new()
                    .text("name", "Fjord Shop")
                    .text("version", "4.7.1")
                    .text("build", "1204")
                    .text("namespace", "org.example.fjord")
                    .end(),
            )
            .raw(
                "device",
                Object::new()
                    .text("id", &person.anonymous_id)
                    .text("manufacturer", if person.ios { "Apple" } else { "Google" })
                    .text("model", if person.ios { "iPhone15,3" } else { "Pixel 8" })
                    .text("type", os)
                    .text("token", &person.token)
                    .end(),
            )
            .raw(
                "library",
                Object::new().text("name", "rudder-ios-library").text("version", "1.29.0").end(),
            )
            .text("locale", person.city.2)
            .raw(
                "network",
                Object::new()
                    .text("carrier", "Telenor")
                    .raw("wifi", true)
                    .raw("cellular", true)
                    .raw("bluetooth", false)
                    .end(),
            )
            .raw("os", Object::new().text("name", os).text("version", version).end())
            .raw(
                "screen",
                Object::new().raw("density", 3).raw("height", 852).raw("width", 393).end(),
            )
            .text("timezone", "Europe/Oslo")
            .raw("sessionId", 1_714_500_000 + person.number * 97);
    } else {
        c = c
            .raw(
                "app",
                Object::new()
                    .text("name", "RudderLabs JavaScript SDK")
                    .text("namespace", "com.rudderlabs.javascript")
                    .text("version", "3.7.3")
                    .text("installType", "cdn")
                    .end(),
            )
            .raw(
                "library",
                Object::new()
                    .text("name", "RudderLabs JavaScript SDK")
                    .text("version", "3.7.3")
                    .end(),
            )
            .text("locale", person.city.2)
            .text("timezone", "GMT+0200")
            .text("userAgent", AGENT)
            .raw("os", Object::new().text("name", "").text("version", "").end())
            .raw(
                "screen",
                Object::new()
                    .raw("density", 2)
                    .raw("width", 1728)
                    .raw("height", 1117)
                    .raw("innerWidth", 1200)
                    .raw("innerHeight", 800)
                    .end(),
            )
            .raw("page", page)
            .raw("sessionId", 1_714_500_000 + person.number * 97)
            .raw(
                "campaign",
                if rng.f64() < 0.25 {
                    "{\"source\":\"newsletter\",\"medium\":\"email\"}"
                } else {
                    "{}"
                },
            );
    }
    c = c.raw("traits", traits.unwrap_or("{}"));
    if !((mobile || server) && rng.f64() < 0.3) {
        let (allowed, denied) = if person.denied {
            (r#"["C0001","C0002","C0005"]"#, r#"["C0003","C0004"]"#)
        } else {
            (r#"["C0001","C0002","C0003","C0004","C0005"]"#, "[]")
        };
        c = c.raw(
            "consentManagement",
            Object::new()
                .text("provider", "oneTrust")
                .text("resolutionStrategy", "and")
                .raw("allowedConsentIds", allowed)
                .raw("deniedConsentIds", denied)
                .end(),
        );
    }
    c.end()
}

fn traits(rng: &mut Rng, person: &Person, now: u64) -> String {
    Object::new()
        .text("email", &person.email)
        .text("firstName", person.name)
        .text("name", format!("{} Lindqvist", person.name))
        .text("plan", person.plan)
        .text("createdAt", iso(now - 86_400_000 * (1 + rng.u64(..1500))))
        .raw("logins", rng.u32(1..900))
        .raw(
            "address",
            Object::new()
                .text("city", person.city.0)
                .text("country", person.city.1)
                .text("postalCode", "0150")
                .text("street", "Birch gate 7")
                .end(),
        )
        .raw("marketing_opt_in", !person.denied)
        .raw("lifetime_value", f64::from(rng.u32(..100_000)) / 100.0)
        .raw("interests", format!("[\"{}\"]", pick(rng, CATEGORIES)))
        .raw(
            "company",
            Object::new()
                .text("id", format!("co-{}", person.company))
                .raw("seats", person.company * 3)
                .end(),
        )
        .end()
}

fn event(rng: &mut Rng, person: &Person, kind: &str, now: u64) -> String {
    let server = matches!(kind, "track" | "identify" | "group" | "alias") && rng.bool();
    let mobile =
        kind == "screen" || kind == "device" || (kind != "page" && !server && person.mobile);
    let known =
        mobile || server || matches!(kind, "identify" | "alias" | "group") || rng.f64() < 0.7;
    let page = page_object(rng).end();
    let identify_traits = (kind == "identify").then(|| traits(rng, person, now));
    let in_context = rng.f64() < 0.6;
    let some_traits = (known && rng.bool()).then(|| {
        Object::new()
            .text("email", &person.email)
            .text("firstName", person.name)
            .text("plan", person.plan)
            .end()
    });
    let context_traits = if in_context {
        identify_traits.as_deref().or(some_traits.as_deref())
    } else {
        some_traits.as_deref()
    };
    let mut e = Object::new()
        .text("type", if kind == "device" { "track" } else { kind })
        .text(
            "channel",
            if server {
                "server"
            } else if mobile {
                "mobile"
            } else {
                "web"
            },
        )
        .text("messageId", uuid(rng))
        .text("anonymousId", &person.anonymous_id)
        .text("userId", if known { &person.user_id } else { "" })
        .raw("context", context(rng, person, mobile, server, context_traits, &page))
        .raw("integrations", "{\"All\":true}")
        .text("originalTimestamp", iso(now))
        .text("sentAt", iso(now + 900))
        .text("receivedAt", iso(now + 940))
        .text("timestamp", iso(now));
    if !server {
        e = e.text("rudderId", uuid(rng)).text("request_ip", "203.0.113.9");
    }
    match kind {
        "track" => {
            let name = EVENTS[rng.usize(..EVENTS.len()).min(rng.usize(..EVENTS.len()))];
            e.text("event", name).raw("properties", properties(rng, name, person)).end()
        }
        "device" => {
            let name = if rng.f64() < 0.8 { "Application Opened" } else { "Application Installed" };
            e.text("event", name)
                .raw("properties", "{\"from_background\":true,\"version\":\"4.7.1\"}")
                .end()
        }
        "identify" if !in_context => e.raw("traits", identify_traits.unwrap_or_default()).end(),
        "page" => {
            let (name, category) = (pick(rng, PAGES), pick(rng, CATEGORIES));
            let properties = page_object(rng).text("name", name).text("category", category).end();
            e.text("name", name).text("category", category).raw("properties", properties).end()
        }
        "screen" => {
            let name = pick(rng, SCREENS);
            let properties = Object::new()
                .text("name", name)
                .raw("depth", rng.u32(..9))
                .text("from", pick(rng, SCREENS))
                .raw("automatic", true)
                .end();
            e.text("event", name).raw("properties", properties).end()
        }
        "group" => {
            let traits = Object::new()
                .text("name", format!("{} AB", pick(rng, WORDS)))
                .text("objectTypeId", "1")
                .text("industry", pick(rng, CATEGORIES))
                .raw("employees", person.company * 7)
                .text("plan", person.plan)
                .raw("arr", person.company as f64 * 1200.5)
                .end();
            e.text("groupId", format!("co-{}", person.company)).raw("traits", traits).end()
        }
        "alias" => e.text("previousId", &person.anonymous_id).end(),
        _ => e.end(),
    }
}

/// Makes `n` events, each one JSON text.
pub fn generate(seed: u64, n: usize) -> Vec<String> {
    let rng = &mut Rng::with_seed(seed);
    let mut now = 1_714_521_600_000;
    (0..n)
        .map(|_| {
            now += 1 + rng.u64(..10);
            let person =
                Person::new(seed, ((rng.f64() * USERS.ln()).exp() as u64).min(USERS as u64));
            let kind = match rng.u32(..100) {
                0..55 => "track",
                55..75 => "identify",
                75..87 => "page",
                87..93 => "screen",
                93..97 => "group",
                97 => "alias",
                _ => "device",
            };
            event(rng, &person, kind, now)
        })
        .collect()
}
