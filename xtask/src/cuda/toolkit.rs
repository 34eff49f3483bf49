//! A CUDA toolkit: where it is, and its libraries under the names that a linker asks for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// What Candle links.
const LIBRARIES: [&str; 5] = ["cudart", "cublas", "cublasLt", "curand", "nvrtc"];

pub(super) struct Toolkit(PathBuf);

/// A folder with links to the toolkit's libraries, and to the driver's or a stand-in for it.
pub(super) struct Links {
    pub(super) folder: PathBuf,
    /// Which driver library is linked against.
    pub(super) driver: String,
}

impl Toolkit {
    /// The one that is named, else that of the environment, else that of the `nvcc` in `PATH`.
    pub(super) fn find(named: Option<&Path>) -> anyhow::Result<Option<Self>> {
        if let Some(folder) = named {
            let folder = std::path::absolute(folder).with_context(|| format!("{}", folder.display()))?;
            if !has_compiler(&folder) {
                bail!("{} is no CUDA toolkit: it has no bin/nvcc", folder.display());
            }
            return Ok(Some(Self(folder)));
        }
        let of_environment = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let in_path = std::env::var_os("PATH").unwrap_or_default();
        let of_compiler = std::env::split_paths(&in_path).filter_map(|bin| {
            let compiler = fs::canonicalize(bin.join("nvcc")).ok()?;
            Some(compiler.parent()?.parent()?.to_owned())
        });
        Ok(of_environment.chain(of_compiler).find(|folder| has_compiler(folder)).map(Self))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Such as `release 13.0, V13.0.88`.
    pub(super) fn version(&self) -> anyhow::Result<String> {
        let compiler = self.0.join("bin/nvcc");
        let output = Command::new(&compiler).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", compiler.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.split_once("release").map(|(_, rest)| format!("release{rest}")));
        line.with_context(|| format!("{} --version says no release", compiler.display()))
    }

    /// Links to the libraries in `folder`. Archives and wheels may have them with a version in their names only.
    pub(super) fn links(&self, folder: &Path) -> anyhow::Result<Links> {
        let with = |path: &Path| format!("cannot write {}", path.display());
        fs::create_dir_all(folder).with_context(|| with(folder))?;
        for name in LIBRARIES {
            let from = self.library(name)?;
            link(&from, &folder.join(format!("lib{name}.so"))).with_context(|| with(folder))?;
        }
        let stub = folder.join("libcuda.so");
        let own = self.folders().into_iter().map(|folder| folder.join("stubs/libcuda.so")).find(|path| path.is_file());
        let driver = match own {
            Some(path) if exports(&path, "cuInit") => {
                link(&path, &stub).with_context(|| with(folder))?;
                path.display().to_string()
            }
            _ => {
                self.make_stub(&stub)?;
                "a stub of every function in the toolkit's cuda.h".to_owned()
            }
        };
        Ok(Links { folder: folder.to_owned(), driver })
    }

    /// Where a toolkit keeps libraries, by how it was packaged.
    fn folders(&self) -> Vec<PathBuf> {
        ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"]
            .iter()
            .map(|name| self.0.join(name))
            .collect()
    }

    fn library(&self, name: &str) -> anyhow::Result<PathBuf> {
        let file = format!("lib{name}.so");
        for folder in self.folders() {
            let mut found: Vec<PathBuf> = fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.strip_prefix(&file).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
                .collect();
            // The name without a version first.
            found.sort();
            if let Some(path) = found.into_iter().next() {
                return Ok(path);
            }
        }
        bail!("{} has no {file}: install that part of the toolkit too", self.0.display())
    }

    /// A library of the driver's functions that do nothing, so that the linker finds whatever the program calls and misses what it
    /// should not.
    fn make_stub(&self, path: &Path) -> anyhow::Result<()> {
        let header = self.0.join("include/cuda.h");
        let text = fs::read_to_string(&header).with_context(|| format!("cannot read {}", header.display()))?;
        let source = path.with_extension("c");
        let functions: String = functions(&text).iter().map(|name| format!("void {name}(void) {{}}\n")).collect();
        fs::write(&source, functions).with_context(|| format!("cannot write {}", source.display()))?;
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]).arg(path).arg(&source);
        let status = compiler.status().context("cannot start the C compiler (cc, or CC)")?;
        if !status.success() {
            bail!("the C compiler could not make a stub of the driver from {} ({status})", source.display());
        }
        Ok(())
    }
}

fn has_compiler(folder: &Path) -> bool {
    folder.join("bin/nvcc").is_file()
}

/// The names in a header that are the driver's functions: `cu` and a capital.
fn functions(header: &str) -> BTreeSet<&str> {
    let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_function =
        |word: &&str| word.strip_prefix("cu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    words.filter(is_function).collect()
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(to);
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Whether a library has a function; its name stands in the file as text.
fn exports(library: &Path, function: &str) -> bool {
    let sought = [&[0], function.as_bytes(), &[0]].concat();
    fs::read(library).is_ok_and(|bytes| bytes.windows(sought.len()).any(|window| window == sought))
}

pub(super) fn is_cuda(library: &str) -> bool {
    library.starts_with("libcu") || library.starts_with("libnvrtc") || library.starts_with("libnccl")
}

/// The shared libraries that a program asks for, by the tool that every linker comes with.
pub(super) fn shared_libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("readelf").arg("-d").arg(program).output().context("cannot start readelf (binutils)")?;
    if !output.status.success() {
        bail!("readelf cannot read {}", program.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(needed.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_a_header_are_told_from_its_types() {
        let header = "\
            #define cuMemAlloc __CUDA_API_PTDS(cuMemAlloc_v2)\n\
            typedef unsigned long long cuuint64_t;\n\
            CUresult CUDAAPI cuInit(unsigned int Flags); /* see ::cuDeviceGet */";
        let expected = ["cuDeviceGet", "cuInit", "cuMemAlloc", "cuMemAlloc_v2"];
        assert_eq!(functions(header).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_folder_without_a_compiler_is_refused() {
        let error = Toolkit::find(Some(Path::new(env!("CARGO_MANIFEST_DIR")))).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("bin/nvcc")));
    }
}
