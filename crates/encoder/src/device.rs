//! Which device a model lies on: what was asked for, what this build can open, what answers.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, utils};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::EncoderError;

/// The device that was asked for: `auto`, `cpu`, `cuda`, `cuda:1`, `metal`, `metal:1`.
///
/// ```
/// use paretune_encoder::DeviceChoice;
///
/// let choice: DeviceChoice = "cuda:1".parse()?;
/// assert_eq!(choice, DeviceChoice::Cuda(1));
/// assert_eq!(choice.to_string(), "cuda:1");
/// assert!(DeviceChoice::Cpu.open()?.is_cpu());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DeviceChoice {
    /// The first CUDA device if this build has CUDA and one answers, else the first Metal device likewise, else the CPU.
    #[default]
    Auto,
    /// The processor, with this crate's own kernels.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The Apple GPU of this number.
    Metal(usize),
}

/// The forms a choice is written in.
const FORMS: &str = "auto, cpu, cuda, cuda:N, metal, metal:N";

impl DeviceChoice {
    /// The devices that this build can open, such as `cpu, cuda`; what features like `mkl` add to the CPU is named with it.
    pub fn compiled() -> String {
        let libraries: Vec<&str> = [("mkl", utils::has_mkl()), ("accelerate", utils::has_accelerate())]
            .into_iter()
            .filter_map(named)
            .collect();
        let cpu = if libraries.is_empty() { "cpu".to_owned() } else { format!("cpu with {}", libraries.join(", ")) };
        let others = [("cuda", utils::cuda_is_available()), ("metal", utils::metal_is_available())];
        [cpu].into_iter().chain(others.into_iter().filter_map(named).map(str::to_owned)).collect::<Vec<_>>().join(", ")
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`EncoderError::DeviceNotCompiled`] if this build has no support for it, [`EncoderError::DeviceUnavailable`] if it does not
    /// answer. `auto` and `cpu` never fail: where a GPU does not answer, `auto` says so as a warning of `tracing` and is the CPU.
    pub fn open(self) -> Result<Device, EncoderError> {
        match self {
            Self::Auto => Ok(Self::first()),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => self.opened(utils::cuda_is_available(), "cuda", || Device::new_cuda(number)),
            Self::Metal(number) => self.opened(utils::metal_is_available(), "metal", || Device::new_metal(number)),
        }
    }

    fn opened(
        self,
        compiled: bool,
        feature: &'static str,
        open: impl FnOnce() -> candle_core::Result<Device>,
    ) -> Result<Device, EncoderError> {
        if !compiled {
            return Err(EncoderError::DeviceNotCompiled { device: self, feature, compiled: Self::compiled() });
        }
        open().map_err(|source| EncoderError::DeviceUnavailable { device: self, source })
    }

    fn first() -> Device {
        for (compiled, choice) in
            [(utils::cuda_is_available(), Self::Cuda(0)), (utils::metal_is_available(), Self::Metal(0))]
        {
            match compiled.then(|| choice.open()) {
                Some(Ok(device)) => return device,
                Some(Err(error)) => tracing::warn!("{error}; the CPU is used"),
                None => {}
            }
        }
        Device::Cpu
    }
}

/// What the network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Kernels {
    /// This crate's fused kernels where there are any, which is on the CPU; elsewhere [`Composed`](Self::Composed).
    #[default]
    Fused,
    /// Candle's own operations on every device. On the CPU that is slower and takes more memory; it is there so that what runs on a GPU
    /// can be tried, and compared with the kernels, on a machine without one.
    Composed,
}

impl Kernels {
    /// Whether the network on `device` is made of fused kernels.
    pub(crate) fn fused_on(self, device: &Device) -> bool {
        self == Self::Fused && device.is_cpu()
    }
}

fn named((name, has): (&'static str, bool)) -> Option<&'static str> {
    has.then_some(name)
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(number) => f.pad(&format!("cuda:{number}")),
            Self::Metal(number) => f.pad(&format!("metal:{number}")),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, number) = text.split_once(':').map_or((text, None), |(kind, number)| (kind, Some(number)));
        let number = match number {
            None => Some(0),
            // As numbers are written: no sign, no spaces.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<usize>().ok(),
            Some(_) => None,
        };
        match (kind, number) {
            ("auto", _) if text == kind => Ok(Self::Auto),
            ("cpu", _) if text == kind => Ok(Self::Cpu),
            ("cuda", Some(number)) => Ok(Self::Cuda(number)),
            ("metal", Some(number)) => Ok(Self::Metal(number)),
            _ => Err(format!("no device `{text}`; there are {FORMS}, of which this build has {}", Self::compiled())),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a device is called in messages and measurements: `cpu`, `cuda:0`, `metal:0`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => DeviceChoice::Cpu,
        candle_core::DeviceLocation::Cuda { gpu_id } => DeviceChoice::Cuda(gpu_id),
        candle_core::DeviceLocation::Metal { gpu_id } => DeviceChoice::Metal(gpu_id),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        for (text, choice, written) in [
            ("auto", DeviceChoice::Auto, "auto"),
            ("cpu", DeviceChoice::Cpu, "cpu"),
            ("cuda", DeviceChoice::Cuda(0), "cuda:0"),
            ("cuda:3", DeviceChoice::Cuda(3), "cuda:3"),
            ("metal", DeviceChoice::Metal(0), "metal:0"),
            ("metal:1", DeviceChoice::Metal(1), "metal:1"),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
            assert_eq!(choice.to_string(), written);
        }
    }

    #[test]
    fn what_is_no_device_is_refused_with_what_there_is() {
        for text in
            ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:1:2", "cpu:0", "auto:0", "metal:x"]
        {
            let message = text.parse::<DeviceChoice>().unwrap_err();
            assert!(message.contains(&format!("`{text}`")) && message.contains("metal:N"), "{message}");
            assert!(message.contains("this build has cpu"), "{message}");
        }
        assert!("cuda:99999999999999999999999".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn what_is_not_compiled_in_names_its_feature() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        for (choice, feature, compiled) in [
            (DeviceChoice::Cuda(0), "cuda", utils::cuda_is_available()),
            (DeviceChoice::Metal(2), "metal", utils::metal_is_available()),
        ] {
            if compiled {
                assert!(DeviceChoice::compiled().contains(feature));
                continue;
            }
            let message = choice.open().unwrap_err().to_string();
            assert!(message.contains(&choice.to_string()), "{message}");
            assert!(message.contains(&format!("--features {feature}")), "{message}");
        }
        if !utils::cuda_is_available() && !utils::metal_is_available() {
            assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<usize>()) {
            for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(number), DeviceChoice::Metal(number)] {
                prop_assert_eq!(choice.to_string().parse(), Ok(choice));
                let json = serde_json::to_string(&choice).unwrap();
                prop_assert_eq!(serde_json::from_str::<DeviceChoice>(&json).unwrap(), choice);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<DeviceChoice>();
        }
    }
}
