"use strict"
// Everything stands in #data; nothing is fetched, and nothing leaves the page but the file that is saved.
const data = JSON.parse(document.getElementById("data").textContent)
const byId = id => document.getElementById(id)
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value)
    else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value)
  }
  element.append(...children)
  return element
}
const said = new Map(Object.entries(data.said))  // card number to "replace", "cover", "leave" or "wrong"
const zones = [...data.zones]
let saved = true

// --- What is decided.

const state = card => ({replaced: "replace", covered: "cover", left: "leave"})[card.action]
const action = (card, word) => word === "wrong" ? card.wrong : word
function lines() {
  const decisions = data.cards.filter(card => said.has(String(card.number))).map(card => {
    const file = data.files[card.file], word = said.get(String(card.number))
    return {input: file.name, frame: card.frame, track: card.track, box: card.box, action: action(card, word), said: word,
      ...(file.sha256 ? {sha256: file.sha256} : {})}
  })
  return [...decisions, ...data.others, ...zones].map(entry => JSON.stringify(entry)).join("\n")
}
function told() {
  const count = said.size, drawn = zones.length
  byId("count").textContent = `${count} decision${count === 1 ? "" : "s"}, ${drawn} zone${drawn === 1 ? "" : "s"}`
  byId("lines").value = lines()
}
function decide(card, word, element) {
  const key = String(card.number)
  if (said.get(key) === word) said.delete(key)
  else if (action(card, word) === state(card) && !card.mixed) said.delete(key)
  else said.set(key, word)
  saved = false
  paint(card, element)
  told()
}
function paint(card, element) {
  const word = said.get(String(card.number)) || state(card)
  element.classList.toggle("decided", said.has(String(card.number)))
  element.querySelectorAll("button").forEach(each => each.setAttribute("aria-pressed", String(each.value === word)))
}
byId("save").addEventListener("click", () => {
  close()
  const link = make("a", {download: "deid-decisions.jsonl", href: URL.createObjectURL(new Blob([lines() + "\n"]))})
  link.click()
  URL.revokeObjectURL(link.href)
  saved = true
})
addEventListener("beforeunload", event => { if (!saved) event.preventDefault() })

// --- Faces: one card a face or track, grouped by likeness, those in doubt first.

const clock = seconds => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`
function shown(card) {
  const file = data.files[card.file], words = [["replace", "Replace"], ["cover", "Cover"], ["leave", "Leave"]]
  if (card.wrong) words.push(["wrong", "Wrong person"])
  const place = file.video ? `${clock(card.times[0])} to ${clock(card.times[1])}` : file.pages ? `page ${card.frame + 1}` : ""
  const pictures = [["before", card.before], ["after", card.after]].filter(pair => pair[1]).map(([name, source]) =>
    make("figure", {}, make("img", {src: source, alt: `${name}: face ${card.track} of ${file.name}`, loading: "lazy"}),
      make("figcaption", {}, name)))
  const tags = [make("span", {class: `tag ${card.action}`}, card.action)]
  if (card.doubt) tags.push(" ", make("span", {class: "tag doubt"}, "in doubt"))
  const element = make("li", {class: "card" + (card.doubt ? " doubt" : ""), id: `card-${card.number}`, tabindex: "-1"},
    make("div", {class: "faces"}, ...pictures), make("div", {}, ...tags),
    make("div", {class: "faint"}, `${file.name}${place ? ", " + place : ""}, face ${card.track}`),
    make("div", {class: "faint"}, card.why))
  const buttons = words.map(([word, text]) => make("button", {type: "button", value: word,
    onclick: () => decide(card, word, element)}, text))
  element.append(make("div", {class: "say", role: "group", "aria-label": `face ${card.track} of ${file.name}`}, ...buttons))
  paint(card, element)
  return element
}
function faces() {
  const wanted = byId("filter").value, place = byId("faces")
  const fits = card => wanted === "all" || (wanted === "doubt" && card.doubt) || card.action === wanted ||
    (wanted === "decided" && said.has(String(card.number)))
  place.replaceChildren(...data.groups.flatMap(group => {
    const cards = group.cards.map(number => data.cards[number]).filter(fits)
    return cards.length ? [make("h2", {}, `${group.name} (${cards.length})`),
      make("ul", {class: "cards"}, ...cards.map(shown))] : []
  }))
  if (!place.children.length) place.append(make("p", {}, "No face is to be shown here."))
}
byId("filter").addEventListener("change", faces)

// --- Videos: a line of time for each, with its tracks.

function films() {
  const films = data.files.map((file, number) => [file, data.cards.filter(card => card.file === number)])
    .filter(([file, cards]) => file.video && cards.length)
  byId("films").hidden = !films.length
  for (const [file, cards] of films) {
    byId("films").append(make("h3", {}, `${file.name}, ${clock(file.seconds)}`), ...cards.map(card => {
      const bars = card.runs.map(([start, end, word]) => {
        const bar = make("a", {href: `#card-${card.number}`, class: `${word}${card.doubt ? " doubt" : ""}`,
          "aria-label": `face ${card.track}, ${word} from ${clock(start)} to ${clock(end)}`,
          onclick: () => { byId("filter").value = "all"; faces(); byId(`card-${card.number}`).focus() }})
        bar.style.left = `${100 * start / file.seconds}%`
        bar.style.width = `${Math.max(0.5, 100 * (end - start) / file.seconds)}%`
        return bar
      })
      return make("div", {class: "line"}, make("span", {}, `face ${card.track}`), make("div", {class: "time"}, ...bars))
    }))
  }
}

// --- Zones: polygons in pixels of the file, drawn on its picture.

const NAMESPACE = "http://www.w3.org/2000/svg"
let corners = [], cross = null, file = null
const drawable = data.files.filter(file => file.picture)
function polygon(points, name) {
  const element = document.createElementNS(NAMESPACE, "polygon")
  element.setAttribute("points", points.map(point => point.join(",")).join(" "))
  element.setAttribute("class", name)
  return element
}
function line(x1, y1, x2, y2) {
  const element = document.createElementNS(NAMESPACE, "line")
  Object.entries({x1, y1, x2, y2, class: "cross"}).forEach(([key, value]) => element.setAttribute(key, value))
  return element
}
function redraw() {
  const [width, height] = file.size, over = byId("over")
  over.setAttribute("viewBox", `0 0 ${width} ${height}`)
  const own = zones.filter(zone => zone.input === file.name)
  over.replaceChildren(...own.map(zone => polygon(zone.polygon, `zone ${zone.zone}`)),
    ...(corners.length ? [polygon(corners, "open")] : []),
    ...(cross ? [line(cross[0], 0, cross[0], height), line(0, cross[1], width, cross[1])] : []))
  byId("drawn").replaceChildren(...zones.map((zone, number) => make("li", {},
    `${zone.zone === "cover" ? "always cover" : "never touch"} in ${zone.input}, ${zone.polygon.length} corners `,
    make("button", {type: "button", onclick: () => { zones.splice(number, 1); saved = false; redraw(); told() }},
      "Remove"))))
}
function choose() {
  if (file) close()
  file = drawable[byId("file").value]
  byId("picture").src = file.picture
  byId("picture").alt = file.name
  byId("picture").width = file.shown[0]
  byId("picture").height = file.shown[1]
  byId("times").hidden = !file.video
  byId("from").value = 0
  byId("to").value = file.video ? file.seconds : 0
  cross = null
  redraw()
}
function add(point) {
  const [width, height] = file.size
  const corner = [Math.round(Math.min(Math.max(point[0], 0), width)), Math.round(Math.min(Math.max(point[1], 0), height))]
  const last = corners[corners.length - 1]
  if (!last || last[0] !== corner[0] || last[1] !== corner[1]) corners.push(corner)
  saved = false
}
// Also when the file is saved and another picture is chosen: what was drawn so far is not lost.
function close() {
  if (corners.length >= 3) {
    const times = file.video ? {from: Number(byId("from").value), to: Math.max(Number(byId("from").value), Number(byId("to").value))} : {}
    zones.push({zone: byId("kind").value, input: file.name, polygon: corners, size: file.size, ...times})
    saved = false
  }
  corners = []
  if (file) redraw()
  told()
}
const draw = byId("draw")
draw.addEventListener("click", event => {
  if (event.detail > 1) return close()
  const box = byId("picture").getBoundingClientRect(), [width, height] = file.size
  cross = null
  add([(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height])
  redraw()
})
draw.addEventListener("keydown", event => {
  const [width, height] = file.size, step = event.shiftKey ? 1 : Math.max(1, Math.round(width / 50))
  const moves = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}
  if (moves[event.key]) {
    cross = cross || [Math.round(width / 2), Math.round(height / 2)]
    cross = [Math.min(width, Math.max(0, cross[0] + moves[event.key][0])), Math.min(height, Math.max(0, cross[1] + moves[event.key][1]))]
  } else if (event.key === " ") add(cross || [width / 2, height / 2])
  else if (event.key === "Enter") close()
  else if (event.key === "Backspace") corners.pop()
  else if (event.key === "Escape") { corners = []; cross = null }
  else return
  event.preventDefault()
  redraw()
})

byId("name").textContent = data.name
byId("about").textContent = data.about
byId("zones").hidden = !drawable.length
drawable.forEach((file, number) => byId("file").append(make("option", {value: number}, file.name)))
byId("file").addEventListener("change", choose)
faces()
films()
if (drawable.length) choose()
told()
