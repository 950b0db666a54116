//! Makes the two enums of a family of mixers, the choice and the module, out of one line a mixer.

/// One line a mixer: `Variant = "name": Module(Settings);`.
macro_rules! mixers {
    (
        $(#[$kind_doc:meta])*
        kind $Kind:ident;
        $(#[$mixer_doc:meta])*
        mixer $Mixer:ident;
        each $each_mixer:ident;
        $( $(#[$doc:meta])* $Variant:ident = $name:literal: $Module:ident($Settings:ident); )+
    ) => {
        $(#[$kind_doc])*
        ///
        /// In a configuration either the name, for the settings' defaults, or a table of the name with settings.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum $Kind {
            $( $(#[$doc])* $Variant($Settings), )+
        }

        impl $Kind {
            /// The names of all.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// All of them, with their default settings.
            #[must_use]
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Variant($Settings::default())),+]
            }

            /// The name in configurations.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$Variant(_) => $name, )+
                }
            }

            /// What the mixer says of itself.
            #[must_use]
            pub fn settings(&self) -> &dyn MixerSettings {
                match self {
                    $( Self::$Variant(settings) => settings, )+
                }
            }
        }

        impl Default for $Kind {
            fn default() -> Self {
                Self::all()[0]
            }
        }

        impl serde::Serialize for $Kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                match self {
                    $(
                        // Without settings the name says all.
                        Self::$Variant(_) if size_of::<$Settings>() == 0 => serializer.serialize_str($name),
                        Self::$Variant(settings) => {
                            let mut map = serializer.serialize_map(Some(1))?;
                            map.serialize_entry($name, settings)?;
                            map.end()
                        }
                    )+
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $Kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $Kind;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str("the name of a mixer, alone or with a table of settings")
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<$Kind, E> {
                        match name {
                            $( $name => Ok($Kind::$Variant($Settings::default())), )+
                            other => Err(E::unknown_variant(other, $Kind::NAMES)),
                        }
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> std::result::Result<$Kind, A::Error> {
                        use serde::de::Error;
                        let name: Option<String> = map.next_key()?;
                        let name = name.ok_or_else(|| A::Error::custom("no mixer is named"))?;
                        let kind = match name.as_str() {
                            $( $name => $Kind::$Variant(map.next_value()?), )+
                            other => return Err(A::Error::unknown_variant(other, $Kind::NAMES)),
                        };
                        match map.next_key::<String>()? {
                            None => Ok(kind),
                            Some(other) => Err(A::Error::custom(format!("{other} beside {name}: one mixer at a time"))),
                        }
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        $(#[$mixer_doc])*
        #[derive(Module, Debug)]
        pub enum $Mixer<B: Backend> {
            $( $(#[$doc])* $Variant($Module<B>), )+
        }

        impl<B: Backend> $Mixer<B> {
            pub(in crate::model) fn make(init: &Initializer<'_, B>, name: &str, kind: $Kind) -> Self {
                match kind {
                    $( $Kind::$Variant(settings) => Self::$Variant(Mixer::new(init, name, settings)), )+
                }
            }

            /// Which kind it is.
            #[must_use]
            pub fn kind(&self) -> $Kind {
                match self {
                    $( Self::$Variant(mixer) => $Kind::$Variant(Mixer::settings(mixer)), )+
                }
            }

            /// Inner channels of a sequence mixer, hidden units of a channel mixer.
            #[must_use]
            pub fn size(&self) -> usize {
                match self {
                    $( Self::$Variant(mixer) => Mixer::size(mixer), )+
                }
            }

            /// Its projections by their local names.
            pub(crate) fn projections_mut(&mut self) -> Vec<(&'static str, &mut Projection<B>)> {
                match self {
                    $( Self::$Variant(mixer) => Mixer::projections_mut(mixer), )+
                }
            }
        }

        /// Calls the same method of whichever mixer it is.
        macro_rules! $each_mixer {
            ($mixer:expr, $each:ident => $call:expr) => {
                match $mixer {
                    $( $Mixer::$Variant($each) => $call, )+
                }
            };
        }
    };
}

pub(super) use mixers;
