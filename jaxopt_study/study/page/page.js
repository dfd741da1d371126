"use strict";
// Click on a column's name: sorted by it, once more: the other way round. Numbers that are none come last.
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => {
      const cell = row.cells[column];
      const given = cell.dataset.v;
      const number = given === undefined ? NaN : Number(given);
      return { row, place, number, text: cell.textContent, isNumber: given !== undefined };
    });
    rows.sort((a, b) => {
      if (a.isNumber && b.isNumber) {
        const nothing = Number.isNaN(a.number) - Number.isNaN(b.number);
        if (nothing || Number.isNaN(a.number)) return nothing || a.place - b.place;
        if (a.number !== b.number) return (a.number < b.number ? -1 : 1) * (up ? 1 : -1);
        return a.place - b.place;
      }
      const order = a.text.localeCompare(b.text, undefined, { numeric: true });
      return order ? order * (up ? 1 : -1) : a.place - b.place;
    });
    body.append(...rows.map((each) => each.row));
  }));
});
document.querySelectorAll(".search").forEach((field) => field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  field.parentElement.querySelectorAll("tbody tr").forEach((row) => {
    row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
  });
}));
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
