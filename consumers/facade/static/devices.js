/** Names that people know devices by. The device type is what the device calls itself. */

const ALIASES = new Map(
  Object.entries({
    angler: "Nexus 6P",
    bullhead: "Nexus 5X",
    flo: "Nexus 7 (2013)",
    flounder: "Nexus 9",
    fugu: "Nexus Player",
    grouper: "Nexus 7 (2012)",
    hammerhead: "Nexus 5",
    shamu: "Nexus 6",
    sailfish: "Pixel",
    marlin: "Pixel XL",
    dragon: "Pixel C",
    walleye: "Pixel 2",
    taimen: "Pixel 2 XL",
    blueline: "Pixel 3",
    crosshatch: "Pixel 3 XL",
    sargo: "Pixel 3a",
    bonito: "Pixel 3a XL",
    flame: "Pixel 4",
    coral: "Pixel 4 XL",
    sunfish: "Pixel 4a",
    bramble: "Pixel 4a 5G",
    redfin: "Pixel 5",
    barbet: "Pixel 5a",
    oriole: "Pixel 6",
    raven: "Pixel 6 Pro",
    bluejay: "Pixel 6a",
    panther: "Pixel 7",
    cheetah: "Pixel 7 Pro",
    lynx: "Pixel 7a",
    felix: "Pixel Fold",
    tangorpro: "Pixel Tablet",
    shiba: "Pixel 8",
    husky: "Pixel 8 Pro",
    akita: "Pixel 8a",
    tokay: "Pixel 9",
    caiman: "Pixel 9 Pro",
    komodo: "Pixel 9 Pro XL",
    comet: "Pixel 9 Pro Fold",
    tegu: "Pixel 9a",
    zeroflte: "Galaxy S6",
    herolte: "Galaxy S7 (global)",
    heroqlteatt: "Galaxy S7 (AT&T)",
    dreamlte: "Galaxy S8",
    starlte: "Galaxy S9",
    beyond1: "Galaxy S10",
    x1s: "Galaxy S20",
    o1s: "Galaxy S21",
    a51: "Galaxy A51",
    foster: "Shield TV (2015)",
    darcy: "Shield TV (2017)",
    mdarcy: "Shield TV Pro (2019)",
    "iPhone7,2": "iPhone 6",
    "iPhone8,1": "iPhone 6s",
    "iPhone9,1": "iPhone 7",
    "iPhone10,1": "iPhone 8",
    "iPhone10,3": "iPhone X",
    "iPhone11,2": "iPhone XS",
    "iPhone11,8": "iPhone XR",
    "iPhone12,1": "iPhone 11",
    "iPhone12,8": "iPhone SE (2nd)",
    "iPhone13,2": "iPhone 12",
    "iPhone14,5": "iPhone 13",
    "iPhone14,6": "iPhone SE (3rd)",
    "iPhone14,7": "iPhone 14",
    "iPhone15,2": "iPhone 14 Pro",
    "iPhone15,4": "iPhone 15",
    "iPhone16,1": "iPhone 15 Pro",
    "iPhone17,3": "iPhone 16",
    "iPad4,1": "iPad Air",
    "iPad5,1": "iPad mini 4",
    "iPad6,3": "iPad Pro 9.7″",
  }),
);

const KINDS = new Map(
  Object.entries({ android: "Android", chromeos: "ChromeOS", ios: "iOS", pyocd: "PyOCD", standalone: "Host" }),
);

/** [what the API calls it, what people call it], in the order of the menu. */
export const ATTACHED_DEVICES = [
  ["nodevice", "None"],
  ["adb", "Android"],
  ["ssh", "SSH"],
  ["ios", "iOS"],
  ["pyocd", "PyOCD"],
];

const ATTACHED = new Map(ATTACHED_DEVICES);

/** The name of the last device type that has one; empty when none has. */
export function aliasOf(types) {
  return types.map((type) => ALIASES.get(type)).findLast((alias) => alias !== undefined) ?? "";
}

/** The kind of device part in the machine's reports, in words. Kinds that we have not heard of keep their name. */
export function kindLabel(kind) {
  return KINDS.get(kind) ?? kind;
}

export function attachedLabel(attached) {
  return ATTACHED.get(attached) ?? attached;
}
