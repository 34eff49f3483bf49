//! `cargo xtask check-cuda`: whether the build for NVIDIA GPUs compiles and links, on a machine that need not have one.

mod toolkit;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::process::{cargo, root, run as start};
use toolkit::Toolkit;

/// What to build it with.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The CUDA toolkit: a folder with `bin/nvcc`. Otherwise CUDA_HOME, CUDA_PATH, or that of the `nvcc` in PATH.
    #[arg(long, value_name = "DIR")]
    toolkit: Option<PathBuf>,
    /// The least GPU to build for, such as 80 (A100) or 90 (H100, H200); newer ones run it too. Otherwise CUDA_COMPUTE_CAP, that of this
    /// machine's GPU, or 80.
    #[arg(long, value_name = "NN")]
    compute_cap: Option<u32>,
    /// More features to build with, for example `cudnn`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    features: Vec<String>,
}

const INSTALL: &str = "\
No CUDA toolkit was found. check-cuda needs nvcc with its headers, and the libraries cudart, cublas, cublasLt, curand and nvrtc; no GPU \
and no driver. Either
  - install the toolkit: https://developer.nvidia.com/cuda-downloads, or the redistributable archives that it is made of, or
  - take Python's wheels into a folder of their own:
      python3 -m venv cuda && cuda/bin/pip install --no-deps 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' \\
        'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' \\
        'nvidia-cublas==13.0.*' nvidia-curand
      cargo xtask check-cuda --toolkit cuda/lib/python3*/site-packages/nvidia/cu13
Name its folder with --toolkit DIR or CUDA_HOME.";

/// Builds the program with CUDA into `target/cuda`. The exit code is 2 where there is nothing to build it with.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let Some(toolkit) = Toolkit::find(args.toolkit.as_deref())? else {
        eprintln!("{INSTALL}");
        return Ok(2);
    };
    let target = root().join("target/cuda");
    let links = toolkit.links(&target.join("libraries"))?;
    let features = ["cuda"].into_iter().chain(args.features.iter().map(String::as_str)).collect::<Vec<_>>().join(",");
    let compute_cap = args.compute_cap.map(|cap| cap.to_string()).or_else(compute_cap);
    println!("toolkit: {} ({})", toolkit.folder().display(), toolkit.version()?);
    println!("driver to link against: {}", links.driver);

    let mut command = cargo();
    command.args(["rustc", "--release", "--package", "paretune", "--bin", "paretune", "--features", &features, "--"]);
    // Before the toolkit's own folders, which may hold a stub that is not whole.
    let mut libraries = OsString::from("native=");
    libraries.push(&links.folder);
    command.arg("-L").arg(libraries);
    command.current_dir(root()).env("CARGO_TARGET_DIR", &target);
    for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
        command.env(name, toolkit.folder());
    }
    if let Some(cap) = &compute_cap {
        command.env("CUDA_COMPUTE_CAP", cap);
    }
    command.env("PATH", before("PATH", &toolkit.folder().join("bin"))?);
    // The linker looks here; unlike RUSTFLAGS it makes nothing be built anew.
    command.env("LIBRARY_PATH", before("LIBRARY_PATH", &links.folder)?);
    start(command)?;

    let binary = target.join("release/paretune");
    let needs = toolkit::shared_libraries(&binary)?;
    let missing: Vec<&str> = ["libcuda.so", "libcublas.so", "libcurand.so"]
        .into_iter()
        .filter(|name| !needs.iter().any(|n| n.starts_with(name)))
        .collect();
    if !missing.is_empty() {
        bail!("{} was linked without {}: it was not built with CUDA", binary.display(), missing.join(", "));
    }
    println!(
        "compiled: Candle's kernels for compute capability {} and newer, and the whole program",
        compute_cap.as_deref().unwrap_or("of this GPU")
    );
    println!(
        "linked: every symbol of {}",
        needs.iter().filter(|name| toolkit::is_cuda(name)).cloned().collect::<Vec<_>>().join(", ")
    );
    println!(
        "not checked: that it computes the right values; on a machine with a GPU run `cargo xtask bench encoder --device cuda`"
    );
    println!("the program is {}; it starts where NVIDIA's driver and these libraries are", binary.display());
    Ok(0)
}

/// What the environment or this machine's GPU says; without either, the oldest with `bf16`.
fn compute_cap() -> Option<String> {
    if let Ok(cap) = std::env::var("CUDA_COMPUTE_CAP") {
        return Some(cap);
    }
    match crate::process::exists("nvidia-smi", &[]) {
        // Candle asks it itself.
        true => None,
        false => Some("80".to_owned()),
    }
}

/// The list of folders of an environment variable, with another one before it.
fn before(name: &str, folder: &Path) -> anyhow::Result<OsString> {
    let old = std::env::var_os(name).unwrap_or_default();
    let folders =
        [folder.to_owned()].into_iter().chain(std::env::split_paths(&old).filter(|path| !path.as_os_str().is_empty()));
    std::env::join_paths(folders).with_context(|| format!("{} cannot be put into {name}", folder.display()))
}
