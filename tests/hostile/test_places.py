"""Which file system a path lies on, told from samples of /proc/self/mountinfo."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from ironflow_nb.journal.file_systems import file_system, is_network, network_file_system

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 master:3 - ext4 /dev/sda1 rw,errors=remount-ro
40 27 0:36 / /home rw,relatime shared:17 - nfs4 files:/export/home rw,vers=4.2,addr=10.0.0.1
41 40 8:2 / /home/ann/fast rw,relatime - xfs /dev/sdb1 rw
42 27 0:50 / /mnt/team\040files rw - cifs //server/team\040files rw,vers=3.1.1
43 27 0:51 / /mnt/back\134slash rw - fuse.sshfs ann@host:/ rw
44 27 0:52 / /work rw - ext4 /dev/sdc1 rw
45 44 0:53 / /work rw - lustre mgs@tcp:/scratch rw
46 27 0:54 / /mnt/c rw - 9p drvfs rw
47 27 0:55 / /content/drive rw - fuse.drive drive rw
this line is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/journal.db", "ext4"),
        ("/", "ext4"),
        ("/proc/1", "proc"),
        ("/home/ann/.ironflow/journal.db", "nfs4"),
        ("/homework/journal.db", "ext4"),
        ("/home/ann/fast/journal.db", "xfs"),
        ("/home/ann/faster/journal.db", "nfs4"),
        ("/mnt/team files/journal.db", "cifs"),
        ("/mnt/back\\slash/journal.db", "fuse.sshfs"),
        ("/work/journal.db", "lustre"),
        ("/mnt/c/journal.db", "9p"),
        ("/content/drive/MyDrive/journal.db", "fuse.drive"),
    ],
)
def test_the_deepest_and_latest_mount_holds_a_path(path: str, kind: str) -> None:
    assert file_system(PurePosixPath(path), MOUNTS) == kind


@pytest.mark.parametrize(
    "mounts", ["", "nonsense\n", "1 2 3\n - \n", MOUNTS.replace("27 1 8:1 / / ", "27 1 8:1 / /x ")]
)
def test_where_no_mount_is_known_the_type_is_unknown(mounts: str) -> None:
    assert file_system(PurePosixPath("/tmp/journal.db"), mounts) == ""


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "fuse", "lustre", "gpfs", "beegfs", "ceph"],
)
def test_files_of_these_may_lie_on_another_machine(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs", "f2fs", ""]
)
def test_files_of_these_lie_on_this_machine(kind: str) -> None:
    assert not is_network(kind)


def test_the_folder_of_the_tests_is_looked_up_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    here = network_file_system(tmp_path / "not there" / "journal.db")
    assert network_file_system(tmp_path / "link" / "not there" / "journal.db") == here
