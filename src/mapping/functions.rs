//! Which VRL functions a script may call.
//!
//! Every allowed function is named here, so that the linker leaves out the others. What is refused
//! is named with its reason; a test holds both lists against the standard library, so that an
//! upgrade of VRL forces a decision about each new function.

use vrl::compiler::Function;

macro_rules! functions {
    ($($name:ident)*) => { vec![$(Box::new(vrl::stdlib::$name) as Box<dyn Function>),*] };
}

/// Makes the list of allowed functions: pure, quick, and known to stock Vector.
pub(super) fn allowed() -> Vec<Box<dyn Function>> {
    functions! {
        // Types.
        Array Boolean Float Integer Object String Timestamp
        IsArray IsBoolean IsEmpty IsFloat IsInteger IsIpv4 IsIpv6 IsJson IsNull IsNullish IsObject
        IsRegex IsString IsTimestamp
        ToBool ToFloat ToInt ToString FromUnixTimestamp ToUnixTimestamp
        // Paths.
        Del Exists Get Remove Set
        // Texts.
        BaseName Camelcase Contains ContainsAll DirName Downcase EndsWith Find Join Kebabcase
        Length Match MatchAny ParseFloat ParseInt Pascalcase Redact Replace ReplaceWith
        ScreamingSnakecase Sieve Slice Snakecase Split StartsWith StripWhitespace Strlen Truncate
        Upcase
        // Collections.
        Append Chunks Compact Filter Flatten ForEach FromEntries Includes Keys MapKeys MapValues
        MatchArray Merge ObjectFromArray Pop Push Tally TallyValue ToEntries Unflatten Unique Values
        Zip
        // Numbers.
        Abs Ceil Floor FormatInt FormatNumber Mod Round
        // Formats.
        DecodeBase16 DecodeBase64 DecodePercent DecodePunycode
        EncodeBase16 EncodeBase64 EncodeCsv EncodeJson EncodeKeyValue EncodePercent EncodePunycode
        FormatTimestamp ParseCsv ParseDuration ParseJson ParseKeyValue ParseQueryString ParseRegex
        ParseRegexAll ParseTimestamp ParseUrl
        // Addresses: to shorten or to compare them.
        IpAton IpCidrContains IpNtoa IpNtop IpPton IpSubnet IpToIpv6 Ipv6ToIpV4
        // Hashes: to send a pseudonym instead of an identity.
        Crc Hmac Md5 Seahash Sha1 Sha2 Sha3 Xxhash
        // The script's own checks.
        Assert AssertEq
    }
}

const NOT_REPEATABLE: &str = "a mapping must give the same result when it is repeated";
const OUTSIDE: &str = "a mapping must not reach for files, the system, or the network";
const LOGGING: &str =
    "a mapping does not log; `abort` or `assert!` with a message says why an event ends";
const SLOW: &str = "its time or memory is out of proportion to the event";
const FOREIGN: &str = "it is made for log lines, which events are not";
const PACKING: &str = "events hold no compressed or enciphered parts, and Customer.io takes none";
const PRUNING: &str = "it reads the whole event unnoticed; use `for_each` or `map_values`";
const NEWER: &str = "stock Vector does not have it yet, so the script would not run there";
const VECTOR: &str = "only Vector itself has it";

/// Functions that exist elsewhere but not in a mapping, each with the reason.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("now", NOT_REPEATABLE),
    ("random_bool", NOT_REPEATABLE),
    ("random_bytes", NOT_REPEATABLE),
    ("random_float", NOT_REPEATABLE),
    ("random_int", NOT_REPEATABLE),
    ("uuid_v4", NOT_REPEATABLE),
    ("uuid_v7", NOT_REPEATABLE),
    ("dns_lookup", OUTSIDE),
    ("encode_proto", OUTSIDE),
    ("get_env_var", OUTSIDE),
    ("get_hostname", OUTSIDE),
    ("get_timezone_name", OUTSIDE),
    ("http_request", OUTSIDE),
    ("parse_etld", OUTSIDE),
    ("parse_proto", OUTSIDE),
    ("reverse_dns", OUTSIDE),
    ("validate_json_schema", OUTSIDE),
    ("log", LOGGING),
    ("parse_grok", SLOW),
    ("parse_groks", SLOW),
    ("parse_user_agent", SLOW),
    ("to_regex", SLOW),
    ("community_id", FOREIGN),
    ("decode_charset", FOREIGN),
    ("decode_mime_q", FOREIGN),
    ("encode_charset", FOREIGN),
    ("encode_logfmt", FOREIGN),
    ("haversine", FOREIGN),
    ("match_datadog_query", FOREIGN),
    ("parse_apache_log", FOREIGN),
    ("parse_aws_alb_log", FOREIGN),
    ("parse_aws_cloudwatch_log_subscription_message", FOREIGN),
    ("parse_aws_vpc_flow_log", FOREIGN),
    ("parse_bytes", FOREIGN),
    ("parse_cbor", FOREIGN),
    ("parse_cef", FOREIGN),
    ("parse_common_log", FOREIGN),
    ("parse_glog", FOREIGN),
    ("parse_influxdb", FOREIGN),
    ("parse_klog", FOREIGN),
    ("parse_linux_authorization", FOREIGN),
    ("parse_logfmt", FOREIGN),
    ("parse_nginx_log", FOREIGN),
    ("parse_ruby_hash", FOREIGN),
    ("parse_syslog", FOREIGN),
    ("parse_tokens", FOREIGN),
    ("parse_xml", FOREIGN),
    ("parse_yaml", FOREIGN),
    ("shannon_entropy", FOREIGN),
    ("split_path", FOREIGN),
    ("strip_ansi_escape_codes", FOREIGN),
    ("tag_types_externally", FOREIGN),
    ("to_syslog_facility", FOREIGN),
    ("to_syslog_facility_code", FOREIGN),
    ("to_syslog_level", FOREIGN),
    ("to_syslog_severity", FOREIGN),
    ("type_def", FOREIGN),
    ("uuid_from_friendly_id", FOREIGN),
    ("decode_gzip", PACKING),
    ("decode_lz4", PACKING),
    ("decode_snappy", PACKING),
    ("decode_zlib", PACKING),
    ("decode_zstd", PACKING),
    ("decrypt", PACKING),
    ("decrypt_ip", PACKING),
    ("encode_gzip", PACKING),
    ("encode_lz4", PACKING),
    ("encode_snappy", PACKING),
    ("encode_zlib", PACKING),
    ("encode_zstd", PACKING),
    ("encrypt", PACKING),
    ("encrypt_ip", PACKING),
    ("unnest", PRUNING),
    ("range", NEWER),
    ("aggregate_vector_metrics", VECTOR),
    ("find_enrichment_table_records", VECTOR),
    ("find_vector_metrics", VECTOR),
    ("get_enrichment_table_record", VECTOR),
    ("get_secret", VECTOR),
    ("get_vector_metric", VECTOR),
    ("remove_secret", VECTOR),
    ("set_secret", VECTOR),
    ("set_semantic_meaning", VECTOR),
];

/// Returns why a function is refused, or `None` if it is allowed or unknown.
pub(super) fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_function_of_the_standard_library_is_either_allowed_or_refused() {
        let allowed: BTreeSet<_> = allowed().iter().map(|f| f.identifier()).collect();
        let refused: BTreeSet<_> = REFUSED.iter().map(|(name, _)| *name).collect();
        assert_eq!(refused.len(), REFUSED.len(), "a refused function is listed twice");
        let both: Vec<_> = allowed.intersection(&refused).collect();
        assert!(both.is_empty(), "both allowed and refused: {both:?}");
        let undecided: Vec<_> = vrl::stdlib::all()
            .iter()
            .map(|f| f.identifier())
            .filter(|name| !allowed.contains(name) && !refused.contains(name))
            .collect();
        assert!(undecided.is_empty(), "neither allowed nor refused: {undecided:?}");
    }

    /// Minor version of the VRL in stock Vector, 0.34 in Vector 0.58. A later one widens the lists.
    const STOCK: u32 = 34;

    #[test]
    fn what_stock_vector_does_not_have_yet_is_refused_for_that_reason_and_nothing_else_is() {
        let lines = include_str!("../../tests/data/vrl-functions.txt").lines();
        let first: BTreeMap<_, u32> = lines
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" 0."))
            .map(|(name, minor)| (name, minor.parse().unwrap()))
            .collect();
        for function in allowed() {
            let first = first.get(function.identifier());
            assert!(first.is_some_and(|f| *f <= STOCK), "{}: {first:?}", function.identifier());
        }
        let newer = first.iter().filter(|(_, first)| **first > STOCK).map(|(name, _)| *name);
        let named_newer = REFUSED.iter().filter(|(_, why)| *why == NEWER).map(|(name, _)| *name);
        assert_eq!(newer.collect::<BTreeSet<_>>(), named_newer.collect());
        // Vector has more functions than VRL, and these are named too.
        for (name, why) in REFUSED {
            assert_eq!(*why == VECTOR, !first.contains_key(name), "{name}");
        }
    }
}
