//! The macros that declare sections and closed sets of words.

/// Declares a section: its struct, decoder, comparison, and schema.
///
/// `field: Type as Form = "default as written in a file"`, or `= required`. `besides` lists keys that
/// are read but are no field, `derived` fields that come from those, `refused` keys that exist
/// elsewhere, with what to do instead, `skipped` keys that the caller reads. `checked by` names a function
/// that looks at several keys together.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($($derive:ident),* $(,)?)])?
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $field:ident : $type:ty as $form:ty = $default:tt
            ),* $(,)?
        }
        $(besides {
            $(
                $(#[doc = $other_doc:literal])*
                $other:ident : $other_type:ty as $other_form:ty = $other_default:tt
            ),* $(,)?
        })?
        $(derived {
            $(
                $(#[doc = $derived_doc:literal])*
                $derived:ident : $derived_type:ty = $value:expr
            ),* $(,)?
        })?
        $(refused { $($refused:literal => $why:literal),* $(,)? })?
        $(skipped { $($skipped:literal),* $(,)? })?
        $(checked by $check:path)?
    ) => {
        $(#[doc = $doc])*
        $(#[derive($($derive),*)])?
        $vis struct $name {
            $( $(#[doc = $field_doc])* #[doc = section!(@about $default)] pub $field: $type, )*
            $($( $(#[doc = $derived_doc])* pub $derived: $derived_type, )*)?
        }

        #[cfg(feature = "pipeline")]
        impl $crate::config::declare::Compare for $name {
            const PLAIN: bool = false;

            fn compare(
                &self,
                other: &Self,
                found: &mut $crate::config::declare::Differences,
            ) {
                $(
                    let key = $crate::config::declare::wire_name(stringify!($field));
                    found.below_key(key, &self.$field, &other.$field);
                )*
                $($( found.below_key(stringify!($derived), &self.$derived, &other.$derived); )*)?
            }
        }

        impl $crate::config::declare::Section for $name {
            fn from_keys(
                keys: &mut $crate::config::declare::Keys<'_>,
                cx: &mut $crate::config::context::Context<'_>,
            ) -> Option<Self> {
                $($( keys.skip($skipped); )*)?
                $(
                    let $field = keys.take::<$type, $form>(
                        $crate::config::declare::wire_name(stringify!($field)),
                        section!(@default $default),
                        cx,
                    );
                )*
                $($(
                    let $other = keys.take::<$other_type, $other_form>(
                        $crate::config::declare::wire_name(stringify!($other)),
                        section!(@default $other_default),
                        cx,
                    );
                )*)?
                let refused: &[(&str, &str)] = &[$($(($refused, $why)),*)?];
                keys.finish(refused, cx);
                $($(
                    let $other = $other?;
                    let _ = &$other;
                )*)?
                let section = Self {
                    $( $field: $field?, )*
                    $($( $derived: $value, )*)?
                };
                $( $check(&section, keys.node(), cx); )?
                Some(section)
            }

            fn describe() -> serde_json::Value {
                use $crate::config::declare::{Description, Form, wire_name};
                let mut description = Description::new();
                $(
                    description.key(
                        wire_name(stringify!($field)),
                        concat!($($field_doc, "\n"),*),
                        <$form as Form<$type>>::schema(),
                        section!(@default $default),
                    );
                )*
                $($(
                    description.key(
                        wire_name(stringify!($other)),
                        concat!($($other_doc, "\n"),*),
                        <$other_form as Form<$other_type>>::schema(),
                        section!(@default $other_default),
                    );
                )*)?
                description.finish(concat!($($doc, "\n"),*))
            }
        }
    };
    (@default required) => { None };
    (@default $text:literal) => { Some($text) };
    (@about required) => { "" };
    (@about "{}") => { "" };
    (@about "null") => { "\n\nDefault: none." };
    (@about $text:literal) => { concat!("\n\nDefault: `", $text, "`.") };
}

/// Declares a closed set of words: its enum, decoder, comparison, and schema.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        $vis:vis enum $name:ident {
            $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        $vis enum $name {
            $( $(#[doc = $variant_doc])* $variant, )*
        }

        #[cfg(feature = "pipeline")]
        $crate::config::declare::plain! { $name }

        impl $crate::config::declare::Choices for $name {
            const ALL: &'static [(&'static str, Self, &'static str)] = &[
                $( ($word, Self::$variant, concat!($($variant_doc),*).trim_ascii()) ),*
            ];
        }
    };
}

pub(in crate::config) use {choice, section};
