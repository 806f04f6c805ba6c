"""What `adb shell` prints on a simulated phone: about as long, and as tedious, as what a real one prints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from random import Random
from typing import Final

from producers.simulator.catalogue import Phone

_PARTITIONS: Final = ("bootimage", "odm", "product", "system", "system_ext", "vendor", "vendor_dlkm")
_HALS: Final = (
    "atrace", "audio", "biometrics.fingerprint", "biometrics.face", "bluetooth", "boot", "camera.provider", "cas", "confirmationui",
    "contexthub", "drm.clearkey", "drm.widevine", "dumpstate", "fastboot", "gatekeeper", "gnss", "graphics.allocator",
    "graphics.composer", "health", "identity", "input.processor", "keymint", "light", "media.c2", "memtrack", "neuralnetworks", "nfc",
    "oemlock", "power", "power.stats", "radio.config", "radio.data", "radio.messaging", "radio.modem", "radio.network", "radio.sim",
    "radio.voice", "rebootescrow", "secure_element", "sensors", "sharedsecret", "thermal", "tetheroffload", "usb", "usb.gadget",
    "uwb", "vibrator", "weaver", "wifi", "wifi.hostapd", "wifi.supplicant",
)  # fmt: skip
_DAEMONS: Final = (
    "adbd", "aconfigd-init", "apexd", "apexd-bootstrap", "apexd-snapshotde", "art_boot", "artd", "audioserver", "blank_screen", "boot-ready",
    "bootanim", "bootstat", "bpfloader", "cameraserver", "console", "credstore", "derive_classpath", "derive_sdk", "drm", "dumpstatez",
    "evsmanagerd", "extra_free_kbytes", "flags_health_check", "fsverity_init", "gatekeeperd", "gpu", "heapprofd", "hidl_memory", "idmap2d",
    "incidentd", "installd", "iorapd", "irqbalance", "keystore2", "lmkd", "logd", "logd-auditctl", "logd-reinit", "mdnsd", "media", "mediadrm",
    "mediaextractor", "mediametrics", "mediatuner", "netd", "odsign", "otapreopt_slot", "perfetto", "prng_seeder", "profcollectd",
    "qemu-props", "recovery-persist", "remount", "rkpd", "rss_hwm_reset", "servicemanager", "simpleperf", "snapuserd", "statsd", "storaged",
    "surfaceflinger", "system_suspend", "tombstoned", "toybox", "traced", "traced_probes", "tradeinmode", "ueventd", "update_engine",
    "update_verifier", "usbd", "vndservicemanager", "vold", "watchdogd", "wificond", "wifi_calibration", "zygote", "zygote_secondary",
)  # fmt: skip
_PLAIN: Final = """
apexd.status=ready|aaudio.mmap_exclusive_policy=2|aaudio.mmap_policy=2|bluetooth.device.class_of_device=90,2,12
bluetooth.profile.a2dp.source.enabled=true|bluetooth.profile.asha.central.enabled=true|bluetooth.profile.avrcp.target.enabled=true
bluetooth.profile.gatt.enabled=true|bluetooth.profile.hfp.ag.enabled=true|bluetooth.profile.hid.device.enabled=true
build.version.extensions.ad_services=15|build.version.extensions.r=15|build.version.extensions.s=15|build.version.extensions.t=15
cache_key.bluetooth.bluetooth_adapter_get_connection_state=-3212459283402918310|cache_key.has_system_feature=-5523841928834482613
cache_key.is_interactive=8403924923349283311|cache_key.is_power_save_mode=-1193846752213493311|camera.disable_zsl_mode=1
dalvik.vm.appimageformat=lz4|dalvik.vm.boot-dex2oat-threads=8|dalvik.vm.dex2oat-Xms=64m|dalvik.vm.dex2oat-Xmx=512m
dalvik.vm.dex2oat-cpu-set=0,1,2,3,4,5,6,7|dalvik.vm.dex2oat-max-image-block-size=524288|dalvik.vm.dex2oat-minidebuginfo=true
dalvik.vm.dexopt.secondary=true|dalvik.vm.heapgrowthlimit=256m|dalvik.vm.heapmaxfree=32m|dalvik.vm.heapminfree=8m|dalvik.vm.heapsize=512m
dalvik.vm.heapstartsize=16m|dalvik.vm.heaptargetutilization=0.5|dalvik.vm.image-dex2oat-Xms=64m|dalvik.vm.image-dex2oat-Xmx=64m
dalvik.vm.isa.arm64.features=default|dalvik.vm.lockprof.threshold=500|dalvik.vm.minidebuginfo=true|dalvik.vm.usejit=true
dalvik.vm.usejitprofiles=true|debug.atrace.tags.enableflags=0|debug.force_rtl=false|debug.sf.disable_backpressure=0
debug.sf.early_app_phase_offset_ns=500000|debug.sf.enable_gl_backpressure=1|debug.sf.latch_unsignaled=0|debug.tracing.screen_brightness=0.39763778
debug.tracing.screen_state=2|dev.bootcomplete=1|dev.mnt.blk.data=dm-49|dev.mnt.blk.metadata=sda11|dev.mnt.blk.mnt.scratch=sda
drm.service.enabled=true|gsm.current.phone-type=1,1|gsm.network.type=Unknown,Unknown|gsm.operator.alpha=,|gsm.operator.iso-country=,
gsm.operator.isroaming=false,false|gsm.sim.state=ABSENT,ABSENT|gsm.version.ril-impl=android qcril 1.0|hwservicemanager.ready=true
init.svc_debug_pid.zygote=1123|keyguard.no_require_sim=true|log.tag.APM_AudioPolicyManager=D|log.tag.stats_log=I|logd.logpersistd.enable=true
logd.ready=true|media.mediadrmservice.enable=true|media.recorder.show_manufacturer_and_model=true|mmp.enable.3g2=true|net.bt.name=Android
nfc.initialized=true|partition.system.verified=2|partition.system.verified.hash_alg=sha256|partition.vendor.verified=2
persist.bluetooth.a2dp_offload.cap=sbc-aac-aptx-aptxhd-ldac|persist.bluetooth.bqr.event_mask=262238|persist.device_config.attempted_boot_count=0
persist.device_config.runtime_native.usap_pool_enabled=true|persist.device_config.runtime_native_boot.iorap_perfetto_enable=false
persist.log.tag.snet_event_log=I|persist.logd.size=1048576|persist.radio.multisim.config=dsds|persist.sys.boot.reason=|persist.sys.dalvik.vm.lib.2=libart.so
persist.sys.displayinset.top=0|persist.sys.fuse=true|persist.sys.gps.lpp=2|persist.sys.lmk.reportkills=true|persist.sys.locale=en-US
persist.sys.sf.color_mode=9|persist.sys.sf.color_saturation=1.0|persist.sys.sf.native_mode=2|persist.sys.timezone=America/New_York
persist.sys.usb.config=adb|persist.traced.enable=1|persist.vendor.camera.privapp.list=org.codeaurora.snapcam|persist.vendor.radio.apm_sim_not_pwdn=1
persist.wm.extensions.enabled=true|pm.dexopt.ab-ota=speed-profile|pm.dexopt.bg-dexopt=speed-profile|pm.dexopt.boot-after-ota=verify
pm.dexopt.first-boot=verify|pm.dexopt.inactive=verify|pm.dexopt.install=speed-profile|ro.actionable_compatible_property.enabled=true
ro.adb.secure=1|ro.allow.mock.location=0|ro.apex.updatable=true|ro.audio.monitorRotation=true|ro.baseband=msm|ro.bionic.2nd_arch=arm
ro.bionic.arch=arm64|ro.boot.avb_version=1.2|ro.boot.boot_devices=soc/1d84000.ufshc|ro.boot.bootdevice=1d84000.ufshc|ro.boot.bootreason=reboot
ro.boot.dynamic_partitions=true|ro.boot.flash.locked=0|ro.boot.hardware.coo=VN|ro.boot.hardware.ddr=8GB,Micron,LPDDR4X|ro.boot.hardware.ufs=128GB,Micron
ro.boot.mode=normal|ro.boot.slot_suffix=_a|ro.boot.vbmeta.avb_version=1.0|ro.boot.vbmeta.device_state=unlocked|ro.boot.verifiedbootstate=orange
ro.boot.veritymode=enforcing|ro.bootimage.build.date.utc=1699217345|ro.bootmode=normal|ro.build.characteristics=nosdcard
ro.carrier=unknown|ro.com.android.dataroaming=false|ro.com.google.clientidbase=android-google|ro.config.alarm_alert=Bright_morning.ogg
ro.config.media_vol_steps=25|ro.config.notification_sound=Eureka.ogg|ro.config.ringtone=The_big_adventure.ogg|ro.control_privapp_permissions=enforce
ro.crypto.allow_encrypt_override=true|ro.crypto.metadata.enabled=true|ro.crypto.state=encrypted|ro.crypto.type=file|ro.dalvik.vm.native.bridge=0
ro.debuggable=0|ro.gfx.driver.1=com.google.pixel.driver|ro.hardware.egl=adreno|ro.hardware.keystore_desede=true|ro.hardware.vulkan=adreno
ro.iorapd.enable=true|ro.kernel.version=4.19|ro.lmk.kill_heaviest_task=true|ro.lmk.psi_partial_stall_ms=70|ro.logd.kernel=false
ro.odm.build.date.utc=1699217345|ro.opa.eligible_device=true|ro.opengles.version=196610|ro.organization_owned=false|ro.persistent_properties.ready=true
ro.postinstall.fstab.prefix=/system|ro.property_service.version=2|ro.secure=1|ro.setupwizard.rotation_locked=true|ro.sf.lcd_density=440
ro.surface_flinger.has_HDR_display=true|ro.surface_flinger.max_frame_buffer_acquired_buffers=3|ro.surface_flinger.running_without_sync_framework=false
ro.telephony.default_network=27,27|ro.treble.enabled=true|ro.vendor.build.security_patch=2023-11-05|ro.vndk.version=30|ro.wifi.channels=
ro.zygote=zygote64_32|security.perf_harden=1|selinux.restorecon_recursive=/data/misc_ce/0|service.sf.present_timestamp=1|setupwizard.feature.baseline_setupwizard_enabled=true
sys.boot.reason=reboot|sys.boot_completed=1|sys.fuse.transcode_enabled=true|sys.init.perf_lsm_hooks=1|sys.oem_unlock_allowed=1
sys.rescue_boot_count=1|sys.retaildemo.enabled=0|sys.sysctl.extra_free_kbytes=30375|sys.system_server.start_count=1|sys.usb.config=adb
sys.usb.configfs=2|sys.usb.controller=a600000.dwc3|sys.usb.ffs.ready=1|sys.usb.state=adb|sys.use_memfd=false|sys.user.0.ce_available=true
telephony.lteOnCdmaDevice=1|vendor.audio.adm.buffering.ms=3|vendor.audio.feature.a2dp_offload.enable=true|vendor.audio.hal.output.suspend.supported=false
vendor.camera.aux.packagelist=com.google.android.GoogleCamera|vendor.display.enable_async_powermode=1|vendor.gralloc.disable_ubwc=0
vendor.iop.enable_uxe=1|vendor.perf.framepacing.enable=1|vendor.powerhal.init=1|vendor.thermal.config=thermal_info_config.json|vold.has_adoptable=0
vold.has_quota=1|vold.has_reserved=1|wifi.active.interface=wlan0|wifi.concurrent.interface=wlan1|wifi.direct.interface=p2p-dev-wlan0|wlan.driver.status=ok
"""
_FLAGS: Final = {
    "activity_manager_native_boot": "use_freezer freeze_debounce_timeout modern_queue_enabled offload_queue_enabled use_oom_re_ranking",
    "aconfig_flags.bluetooth": "bt_offload_socket_api le_scan_msft_support sink_audio_policy_handover unified_connection_manager",
    "aconfig_flags.core_graphics": "connected_display enable_layer_command_batching latch_unsignaled_with_auto_refresh_changed view_set",
    "aconfig_flags.media_better_together": "adjust_volume_for_foreground_app disable_screen_off_broadcast_receiver enable_privileged_routing",
    "lmkd_native": "direct_reclaim_threshold_ms filecache_min_kb thrashing_limit_critical use_psi_for_wakeups",
    "media_native": "mediametrics_emulator mmap_exclusive_policy set_audio_thread_priority stagefright_codecs_drm_shared",
    "nnapi_native": "current_feature_level telemetry_enable",
    "profcollect_native_boot": "enabled max_trace_limit_mb sampling_period",
    "runtime_native_boot": "blacklisted_packages enable_uffd_gc_2 force_disable_uffd_gc pin_camera use_profile_guided_compaction",
    "surface_flinger_native_boot": "AdpfFeature__adpf_cpu_hint AdpfFeature__adpf_gpu_sf SkiaTracingFeature__use_skia_tracing demo_flag",
    "tethering": "bpf_net_maps_force_disable_java_bpf_map dhcp_restart_configuration_delay tether_force_random_prefix_base_selection",
    "vendor_system_native": "enable_auto_suspend_blocker enable_gpu_scheduler_hints prefer_boosted_audio_hal restrict_background_uclamp",
}  # fmt: skip
_BOOTED_DAEMONS: Final = (
    "blank_screen",
    "bootanim",
    "bpfloader",
    "derive_sdk",
    "fsverity_init",
    "update_verifier",
)
_SENSORS: Final = (
    ("battery", 2, 0.0),
    ("disp_therm", 3, 0.5),
    ("quiet_therm", 3, 0.8),
    ("skin", 3, 1.2),
    ("usb_port", 4, -2.0),
)


@lru_cache(maxsize=512)  # a phone prints the same until it is flashed
def getprop(phone: Phone, serial: str) -> str:
    """Output of `adb shell getprop`: about 32 kB."""
    properties = dict(line.split("=", 1) for line in _PLAIN.replace("|", "\n").strip().splitlines())
    properties |= {
        f"persist.device_config.{space}.{flag}": "true"
        for space, flags in _FLAGS.items()
        for flag in flags.split()
    }
    properties.update(_services(phone))
    properties.update(_builds(phone))
    properties.update(_identity(phone))
    properties |= {"ro.serialno": serial, "ro.boot.serialno": serial}
    return "".join(f"[{key}]: [{value}]\n" for key, value in sorted(properties.items()))


def _services(phone: Phone) -> Iterator[tuple[str, str]]:
    """State, process and boot time of everything that init starts: two thirds of the text."""
    chance = Random(phone.fingerprint)  # noqa: S311  # a toy, not a secret
    pid, booted = 300, 2_100_000_000
    for name in (*_DAEMONS, *(f"vendor.{hal}-service" for hal in _HALS)):
        pid += chance.randrange(1, 40)
        booted += chance.randrange(1_000_000, 90_000_000)
        yield f"ro.boottime.{name}", str(booted)
        if name in _BOOTED_DAEMONS:
            yield f"init.svc.{name}", "stopped"
        else:
            yield f"init.svc.{name}", "running"
            yield f"init.svc_debug_pid.{name}", str(pid)


def _builds(phone: Phone) -> Iterator[tuple[str, str]]:
    """Every partition tells once more what is told for the whole."""
    for partition in _PARTITIONS:
        yield f"ro.{partition}.build.id", phone.build_id
        yield f"ro.{partition}.build.fingerprint", phone.fingerprint
        yield f"ro.{partition}.build.tags", phone.tags
        yield f"ro.{partition}.build.type", phone.build_type
        yield f"ro.{partition}.build.version.incremental", phone.incremental
        yield f"ro.{partition}.build.version.release", phone.release
        yield f"ro.{partition}.build.version.sdk", str(phone.sdk)
        yield f"ro.product.{partition}.device", phone.device
        yield f"ro.product.{partition}.manufacturer", phone.manufacturer
        yield f"ro.product.{partition}.model", phone.model
        yield f"ro.product.{partition}.name", phone.product
        if partition != "system":
            yield f"ro.product.{partition}.brand", phone.brand
    yield "ro.product.system.brand", phone.brand if phone.build_type == "user" else "Android"


def _identity(phone: Phone) -> Iterator[tuple[str, str]]:
    yield (
        "ro.build.description",
        (
            f"{phone.product}-{phone.build_type} {phone.release} {phone.build_id} {phone.incremental} {phone.tags}"
        ),
    )
    yield "ro.build.display.id", phone.build_id
    yield "ro.build.fingerprint", phone.fingerprint
    yield "ro.build.flavor", f"{phone.product}-{phone.build_type}"
    yield "ro.build.id", phone.build_id
    yield "ro.build.product", phone.device
    yield "ro.build.tags", phone.tags
    yield "ro.build.type", phone.build_type
    yield "ro.build.version.incremental", phone.incremental
    yield "ro.build.version.release", phone.release
    yield "ro.build.version.sdk", str(phone.sdk)
    yield "ro.hardware", phone.board
    yield "ro.product.board", phone.board
    yield "ro.product.brand", phone.brand
    yield "ro.product.cpu.abi", phone.abi
    yield "ro.product.device", phone.device
    yield "ro.product.manufacturer", phone.manufacturer
    yield "ro.product.model", phone.model
    yield "ro.product.name", phone.product


def dumpsys_battery(level: int, *, celsius: float, charging: bool) -> str:
    """Output of `adb shell dumpsys battery`; `level` in percent."""
    return (
        "Current Battery Service state:\n"
        "  AC powered: false\n"
        f"  USB powered: {str(charging).lower()}\n"
        "  Wireless powered: false\n"
        "  Dock powered: false\n"
        "  Max charging current: 500000\n"
        "  Max charging voltage: 5000000\n"
        f"  Charge counter: {level * 39_000}\n"
        f"  status: {2 if charging else 3}\n"
        "  health: 2\n"
        "  present: true\n"
        f"  level: {level}\n"
        "  scale: 100\n"
        f"  voltage: {3500 + level * 8}\n"
        f"  temperature: {round(celsius * 10)}\n"
        "  technology: Li-ion\n"
    )


def dumpsys_thermal_service(celsius: float, *, uptime: timedelta) -> str:
    """Output of `adb shell dumpsys thermalservice`; `celsius` is the battery's, the rest of the phone goes with it."""
    seconds = int(uptime.total_seconds())
    cached = _temperatures(celsius - 0.7)
    return (
        "IsStatusOverride: false\n"
        "ThermalEventListeners:\n"
        "\tcallbacks: 2\n"
        "\tkilled: false\n"
        "\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n"
        "\tcallbacks: 1\n"
        "\tkilled: false\n"
        "\tbroadcasts count: -1\n"
        "Thermal Status: 0\n"
        "Cached temperatures:\n"
        f"{cached}"
        "HAL Ready: true\n"
        "HAL connection:\n"
        f"\tThermalHAL 2.0 connected: yes, for {seconds} s\n"
        "Current temperatures from HAL:\n"
        f"{_temperatures(celsius)}"
        "Current cooling devices from HAL:\n"
        "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
        "\tCoolingDevice{mValue=0, mType=3, mName=thermal-devfreq-0}\n"
    )


def _temperatures(celsius: float) -> str:
    return "".join(
        f"\tTemperature{{mValue={celsius + offset:.1f}, mType={kind}, mName={name}, mStatus=0}}\n"
        for name, kind, offset in _SENSORS
    )
