// The page: its views, the devices that the person named, and what is said aloud.

import { About } from "./about.js";
import { Add } from "./add.js";
import { Device, address_of, home } from "./device.js";
import { House } from "./house.js";
import { el, say, show } from "./dom.js";
import { t } from "./text.js";

// Devices at most: a person's, not a fleet's.
const MOST_DEVICES = 32;
// Addresses outlive the tab, tokens do not.
const ADDRESSES = "weir.devices";
const TOKENS = "weir.tokens";

const byId = (id) => document.getElementById(id);

function stored(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(key)) ?? otherwise;
  } catch {
    // Nothing there, not ours, or the browser keeps nothing: the page works without.
    return otherwise;
  }
}

function store(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // As above.
  }
}

const houses = [];

function remember() {
  store(localStorage, ADDRESSES, houses.filter((house) => !house.device.is_self).map((house) => house.device.address));
  store(sessionStorage, TOKENS, Object.fromEntries(houses.filter((house) => house.device.token).map((house) => [house.device.address, house.device.token])));
}

// Says it to who does not see it, and for what somebody must know, to everybody.
function announce(words, is_important = false) {
  byId("said").textContent = words;
  if (!is_important) return;
  const notice = el("p", { class: "notice" }, words);
  byId("notices").replaceChildren(notice);
  setTimeout(() => notice.remove(), 10_000);
}

function move_in(device) {
  if (houses.length >= MOST_DEVICES) return;
  const house = new House(device, { announce, several: houses.length > 0, changed: remember });
  house.counted = count;
  houses.push(house);
  byId("houses").append(house.element);
  for (const each of houses) each.several(houses.length > 1);
}

function move_out(house) {
  house.gone();
  houses.splice(houses.indexOf(house), 1);
  for (const each of houses) each.several(houses.length > 1);
  announce(t("device_removed", { address: house.device.name }));
  remember();
  count();
}

// The sentence at the top.
function count() {
  const sum = { all: 0, running: 0, troubled: 0 };
  for (const house of houses) for (const [key, value] of Object.entries(house.counts())) sum[key] += value;
  say(byId("summary"), sum.all ? t(sum.troubled ? "summary_troubled" : "summary", sum) : "");
  document.title = sum.troubled ? `(${sum.troubled}) ${t("title")}` : t("title");
}

const add = new Add({
  announce,
  added(device, id) {
    location.hash = "";
    announce(t("done_added", { source: device.name }));
    const house = houses.find((each) => each.device === device);
    house?.again();
    arrive(house, id);
  },
});

// The new pipeline's card comes with the next answer; then it is where the person is.
async function arrive(house, id) {
  for (let turn = 0; turn < 40; turn += 1) {
    const card = house?.cards.get(id);
    if (card) {
      card.element.setAttribute("tabindex", "-1");
      card.element.focus();
      card.element.scrollIntoView({ block: "nearest" });
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const about = new About({
  houses: () => houses,
  add(device) {
    move_in(device);
    remember();
  },
  remove: move_out,
  changed: remember,
});

const views = { "": byId("houses"), "#add": add.element, "#devices": about.element };

function turn_to(is_first) {
  const hash = Object.hasOwn(views, location.hash) ? location.hash : "";
  for (const [name, view] of Object.entries(views)) show(view, name === hash);
  for (const link of document.querySelectorAll("nav a")) {
    const is_here = new URL(link.href).hash === hash;
    if (is_here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (hash === "#add") add.open(houses.map((house) => house.device));
  if (hash === "#devices") about.open();
  if (!is_first) (views[hash].querySelector("h2[tabindex]") ?? byId("main")).focus();
}

function begin() {
  for (const element of document.querySelectorAll("[data-text]")) say(element, t(element.dataset.text));
  byId("main").append(add.element, about.element);
  const tokens = stored(sessionStorage, TOKENS, {});
  const addresses = stored(localStorage, ADDRESSES, []);
  const named = Array.isArray(addresses) ? addresses.filter((each) => typeof each === "string").map(address_of) : [];
  for (const address of new Set([home(), ...named.filter(Boolean)])) {
    const token = Object.hasOwn(tokens, address) && typeof tokens[address] === "string" ? tokens[address] : "";
    move_in(new Device(address, token));
  }
  addEventListener("hashchange", () => turn_to(false));
  document.addEventListener("visibilitychange", () => houses.forEach((house) => house.turn()));
  turn_to(true);
}

begin();
