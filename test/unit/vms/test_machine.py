# SPDX-License-Identifier: mpich2
import os
from unittest import mock

from scratch import ScratchTest
from vms import machine
from vms.machine import Parts
from vms.messages import Failure
from vms.options import Options


class Machine(ScratchTest):
    def command_line(self, guest: int, vms: str = "3", **named) -> list[str]:
        options = Options(vms, {"--" + name.replace("_", "-"): value for name, value in named.items()}, [], ["-last"])
        parts = Parts("/boot/vmlinuz", self.path("initramfs"), ["/dev/shm/a", "/dev/shm/b"][:options.regions])
        return machine.command_line(self.folder(), options, parts, guest, "uuid")

    def value(self, args: list[str], option: str) -> str:
        return args[args.index(option) + 1]

    def test_there_is_always_room_for_a_second_processor(self):
        for cpus, smp in (("1", "1,maxcpus=2"), ("2", "2,maxcpus=2"), ("4", "4,maxcpus=4")):
            self.assertEqual(self.value(self.command_line(0, cpus=cpus), "-smp"), smp)

    def test_emulated_processors_run_at_once_and_copy_by_other_instructions(self):
        args = self.command_line(0, accel="tcg")
        self.assertEqual(self.value(args, "-accel"), "tcg,thread=multi")
        self.assertEqual(self.value(args, "-cpu"), "max,-erms,-fsrm")
        self.assertIn(" tsc=reliable no_timer_check ", self.value(args, "-append"))
        args = self.command_line(0, accel="kvm")
        self.assertEqual((self.value(args, "-accel"), self.value(args, "-cpu")), ("kvm", "max"))
        self.assertNotIn("tsc", self.value(args, "-append"))
        self.assertNotIn("timer", self.value(args, "-append"))

    def test_each_pair_has_a_link_with_one_listener(self):
        sockets = {}
        for guest in range(3):
            for arg in self.command_line(guest):
                if arg.startswith("stream,"):
                    fields = dict(field.split("=") for field in arg.split(",")[1:])
                    sockets.setdefault(fields["addr.path"], []).append(fields["server"])
        self.assertEqual(sorted(map(os.path.basename, sockets)), ["link-0-1", "link-0-2", "link-1-2"])
        self.assertEqual(list(sockets.values()), [["on", "off"]] * 3)

    def test_a_guest_with_an_image_has_a_disk_and_settings_of_its_own(self):
        options = Options("2", {"--image": "debian"}, [], [])
        parts = Parts("kernel", self.path("initramfs"), ["/dev/shm/a"], "debian")
        args = machine.command_line(self.folder(), options, parts, 1, "ab-cd")
        self.assertEqual(self.value(args, "-drive"),
                         f"if=virtio,format=qcow2,cache=unsafe,file={self.folder()}/vm1.disk")
        self.assertEqual(self.value(args, "-fw_cfg"), f"name=opt/ivshmem-vms,file={self.folder()}/vm1.settings")
        self.assertIn(" root=/dev/vda rw systemd.hostname=vm1 systemd.machine_id=abcd ", self.value(args, "-append"))
        self.assertNotIn("-drive", self.command_line(1))

    def test_regions_in_turn_and_none_where_none_is_wanted(self):
        args = [self.command_line(guest, regions="2", no_device="1") for guest in range(3)]
        self.assertIn("memory-backend-file,id=region,share=on,mem-path=/dev/shm/a,size=67108864", args[2])
        self.assertIn(" vm=2 region=/dev/shm/a region_size=67108864", self.value(args[2], "-append"))
        self.assertNotIn("ivshmem-plain,memdev=region", args[1])
        self.assertIn(" region= ", self.value(args[1], "-append"))
        self.assertIn("mem-path=/dev/shm/b", " ".join(self.command_line(1, regions="2")))

    def test_regions_by_their_servers(self):
        args = self.command_line(1, regions="2", server="", cpus="2")
        self.assertIn("ivshmem-doorbell,chardev=server,vectors=2", args)
        self.assertIn(f"socket,id=server,path={self.folder()}/server1", args)
        self.assertFalse([arg for arg in args if "mem-path" in arg])
        self.assertNotIn("doorbell", " ".join(self.command_line(1, no_device="1", server="")))

    def test_the_users_arguments_come_last(self):
        self.assertEqual(self.command_line(0)[-1], "-last")

    def keep(self, *args: str):
        folder = self.folder()
        folder.of_guest(0, "qemu").write_bytes(b"".join(os.fsencode(arg) + b"\0" for arg in args))
        return folder

    def test_what_qemu_says(self):
        self.assertEqual(machine.start(self.keep("true"), 0), "")
        self.assertEqual(machine.start(self.keep("sh", "-c", "echo no; echo 'n''o' >&2; exit 1"), 0), "no\nno")
        self.assertEqual(machine.start(self.keep("sh", "-c", "exit 3"), 0), "its exit status is 3")
        self.assertIn("No such file", machine.start(self.keep("/none"), 0))

    def first_start(self, said: list[str]) -> int:
        parts = Parts("/boot/vmlinuz", self.path("initramfs"), ["/dev/shm/a"])
        with mock.patch.object(machine, "start", side_effect=said) as self.started:
            return machine.first_start(self.folder(), Options("1", {}, [], []), parts, 0)

    def test_another_port_if_one_is_taken(self):
        taken = "Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'"
        port = self.first_start([taken, taken, ""])
        self.assertIn(port, machine.PORTS)
        kept = self.folder().of_guest(0, "qemu").read_bytes().split(b"\0")
        self.assertEqual(kept[-2:], [b"user,id=host,ipv6=off,hostfwd=tcp:127.0.0.1:%d-:22" % port, b""])
        with self.assertRaisesRegex(Failure, "QEMU did not start vm0: Could not"):
            self.first_start([taken] * 20)
        with self.assertRaisesRegex(Failure, "QEMU did not start vm0: no"):
            self.first_start(["no", ""])
        self.assertEqual(self.started.call_count, 1)
