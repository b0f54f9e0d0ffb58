//! Checks that the pinned maps are the maps that the program is written for.
use std::io;
use std::path::PathBuf;

use aya::maps::{MapError, MapInfo};
use aya_obj::Object;
use dns_xdp_ebpf::table;

use super::program::OBJECT;
use super::{Error, MAPS};

/// The shape of a map: type, octets of a key and of a value, number of elements.
type Shape = (u32, u32, u32, u32);

/// Describes the first pinned map that is missing, is not a map, or has a shape different from the object's map.
/// `bank_slots` is the number of slots in a bank of the table.
///
/// # Errors
/// The kernel does not describe a map.
pub(super) fn misfit(bank_slots: u32, pinned: impl Fn(&str) -> PathBuf) -> Result<Option<String>, Error> {
    let object = Object::parse(OBJECT).map_err(|error| Error::loading(error.into()))?;
    for name in MAPS {
        let Some(map) = object.maps.get(name) else { continue };
        let elements = match name {
            table::NAMES => 2 * bank_slots,
            table::NAME_OVERFLOW => table::overflow_elements(bank_slots),
            _ => map.max_entries(),
        };
        let wanted = (map.map_type(), map.key_size(), map.value_size(), elements);
        let path = pinned(name);
        let wrong = match there(&path) {
            Ok(shape) if shape == wanted => continue,
            Ok(_) => "is not of this version's shape",
            Err(MapError::SyscallError(call)) if is_none(&call.io_error) => "is no map",
            Err(error) => {
                return Err(
                    Error::new(format!("cannot look at the pinned map {}", path.display())).because_of(error)
                );
            }
        };
        return Ok(Some(format!("{} {wrong}", path.display())));
    }
    Ok(None)
}

fn there(path: &PathBuf) -> Result<Shape, MapError> {
    let info = MapInfo::from_pin(path)?;
    Ok((info.map_type()? as u32, info.key_size(), info.value_size(), info.max_entries()))
}

/// Whether the error means that there is no such map, and not that the kernel could not look now.
fn is_none(error: &io::Error) -> bool {
    [libc::ENOENT, libc::ENOTDIR, libc::EINVAL, libc::EISDIR, libc::ELOOP, libc::EACCES]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_no_map() {
        let directory = tempfile::tempdir().unwrap();
        let misfit = misfit(20, |name| directory.path().join(name)).unwrap().unwrap();
        assert!(misfit.ends_with(&format!("{} is no map", MAPS[0])), "{misfit}");
    }

    #[test]
    fn the_object_has_every_map_that_is_pinned() {
        let object = Object::parse(OBJECT).unwrap();
        assert!(MAPS.iter().all(|name| object.maps.contains_key(*name)));
    }
}
