// Sorts the groups of a table by the column whose title is clicked: numbers by value, texts alphabetically; a second click reverses the order.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.querySelectorAll("thead th")];
  titles.forEach((title, column) => {
    const sort = () => {
      const up = title.getAttribute("aria-sort") === "descending";
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort);
      };
      const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        body.append(...rows.sort((a, b) => (up ? 1 : -1) * order(key(a), key(b))));
      }
      titles.forEach((other) => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", up ? "ascending" : "descending");
    };
    title.tabIndex = 0;
    title.addEventListener("click", sort);
    title.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
// Nothing can be hovered over on paper: the glossary is printed.
addEventListener("beforeprint", () => document.getElementById("glossary")?.setAttribute("open", ""));
